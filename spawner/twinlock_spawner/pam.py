"""A PAM session for an endpoint, by ctypes: pam(3), Linux-PAM's libpam.so.0.

Nobody can be asked anything, so there is no authentication, and the conversation fails. Which call failed and why is
in the audit log; the user learns only that the site's rules don't allow it.
"""

import contextlib
import ctypes
import os
import select
import signal

import twinlock_spawner.child

_CONV_ERR, _ESTABLISH_CRED, _DELETE_CRED, _SILENT = 19, 2, 4, 0x8000  # security/_pam_types.h


class Session:
    """A session of a child's account; `_undo` are the calls that are due at its end, the last one first."""

    def __init__(self, child: "twinlock_spawner.child.Child") -> None:
        self._child, self._handle, self._undo = child, ctypes.c_void_p(), list[tuple[str, int]]()

    def open(self) -> None:
        """Account rules, credentials, session; groups and environment of the child are then as the modules set them.

        Raises `ValueError` where the site's rules are against it.
        """
        self._pam, child = ctypes.CDLL("libpam.so.0"), self._child
        self._pam.pam_strerror.restype = ctypes.c_char_p
        self._pam.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)
        # struct pam_conv: a function, and what it would be called with.
        self._mute = ((kind := ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)) * 2)(kind(lambda *_: _CONV_ERR))
        words = child.policy.pam_service.encode(), child.request.user.encode()
        self._call("start", *words, self._mute, ctypes.byref(self._handle), undo=("end", 0))
        self._call("acct_mgmt", self._handle, _SILENT)
        os.setgroups(child.groups)  # before the credentials, which may be more groups
        self._call("setcred", self._handle, _SILENT | _ESTABLISH_CRED, undo=("setcred", _SILENT | _DELETE_CRED))
        self._call("open_session", self._handle, _SILENT, undo=("close_session", _SILENT))
        child.groups, entries = os.getgroups(), iter(self._pam.pam_getenvlist(self._handle))
        child.environment = dict(os.fsdecode(entry).partition("=")[::2] for entry in iter(entries.__next__, None))

    def close(self) -> None:
        """Undo what was done, in a process of its own: what hangs or crashes there changes nothing here.

        After five seconds it is left to the outer guard, which ends it with all else.
        """
        if self._undo and not (pid := os.fork()):
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            for name, flags in reversed(self._undo):
                with contextlib.suppress(ValueError):
                    self._call(name, self._handle, flags)
            os._exit(0)
        if self._undo and not select.select([os.pidfd_open(pid)], [], [], 5.0)[0]:
            self._child.audit.line("pam-failed", id=self._child.request.id, call="close", reason="it took too long")

    def _call(self, name: str, *arguments: object, undo: tuple[str, int] | None = None) -> None:
        """The administrator gets the reason, the user doesn't: it would tell about the site."""
        if result := getattr(self._pam, f"pam_{name}")(*arguments):
            reason = self._pam.pam_strerror(self._handle, result).decode(errors="replace")
            self._child.audit.line("pam-failed", id=self._child.request.id, call=name, reason=reason)
            raise ValueError("the site's rules for accounts don't allow it now")
        self._undo += [undo] if undo else []
