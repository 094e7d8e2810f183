"""A PAM session for an endpoint, by ctypes: pam(3), Linux-PAM's libpam.so.0.

Nobody can be asked anything, so there is no authentication, and the conversation fails. Which call failed and why is
in the audit log; the user learns only that the site's rules don't allow it.
"""

import contextlib
import ctypes
import os
import select
import signal
from itertools import takewhile

from twinlock_spawner.start import Start

# Numbers of security/_pam_types.h.
_CONV_ERR = 19
_ESTABLISH_CRED = 2
_DELETE_CRED = 4
_SILENT = 0x8000

_CLOSE_LIMIT = 5.0
"""Seconds for the modules to close a session."""


_Converse = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)
"""How modules may ask something."""


class _Conversation(ctypes.Structure):
    """``struct pam_conv``: that function, and what it is given."""

    _fields_ = [("function", _Converse), ("data", ctypes.c_void_p)]


class Session:
    """A session of a start's account."""

    def __init__(self, start: Start) -> None:
        """Begin, pam_start(3). Raises `ValueError` or `OSError` where that isn't possible."""
        self._start = start
        self._handle = ctypes.c_void_p()
        self._pam = ctypes.CDLL("libpam.so.0")
        self._pam.pam_strerror.restype = ctypes.c_char_p
        self._pam.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)
        fail = _Converse(lambda *_: _CONV_ERR)
        self._silent = _Conversation(fail, None)  # the library keeps a pointer to it
        service = start.policy.pam_service.encode()
        user = start.request.user.encode()
        self._call("start", service, user, ctypes.byref(self._silent), ctypes.byref(self._handle))
        self._undo = contextlib.ExitStack()  # calls that are due at the end, the last one first
        self._undo.callback(self._call, "end", self._handle, 0)

    def open(self) -> None:
        """Go through account rules, credentials and session.

        Groups and environment of the start are then as the modules set them. Raises `ValueError` where the site's rules
        are against it.
        """
        start = self._start
        self._call("acct_mgmt", self._handle, _SILENT)
        os.setgroups(start.groups)  # before the credentials, which may be more groups
        self._call("setcred", self._handle, _SILENT | _ESTABLISH_CRED)
        self._undo.callback(self._call, "setcred", self._handle, _SILENT | _DELETE_CRED)
        self._call("open_session", self._handle, _SILENT)
        self._undo.callback(self._call, "close_session", self._handle, _SILENT)
        start.groups = os.getgroups()
        entries = self._pam.pam_getenvlist(self._handle)
        for entry in takewhile(lambda entry: entry is not None, entries):
            name, _, value = os.fsdecode(entry).partition("=")
            start.environment[name] = value

    def close(self) -> None:
        """Undo what was done, in a process of its own: what hangs or crashes there changes nothing here.

        After five seconds it is left to the outer guard, which ends it with all else.
        """
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            with contextlib.suppress(ValueError):
                self._undo.close()  # all of them, whichever fails
            os._exit(0)
        ended, _, _ = select.select([os.pidfd_open(pid)], [], [], _CLOSE_LIMIT)
        if not ended:
            self._record("close", "it took too long")

    def _call(self, name: str, *arguments: object) -> None:
        """Call a function of PAM. Raises `ValueError` where it fails.

        The administrator gets the reason, the user doesn't: it would tell about the site.
        """
        result = getattr(self._pam, f"pam_{name}")(*arguments)
        if result:
            self._record(name, self._pam.pam_strerror(self._handle, result).decode(errors="replace"))
            raise ValueError("the site's rules for accounts don't allow it now")

    def _record(self, call: str, reason: str) -> None:
        self._start.audit.record("pam-failed", id=self._start.request.id, call=call, reason=reason)
