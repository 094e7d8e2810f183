"""A PAM session for an endpoint, by ctypes: pam(3), Linux-PAM's libpam.so.0.

Nobody can be asked anything, so there is no authentication, and the conversation fails. Which call failed and why is
in the audit log; the user learns only that the site's rules don't allow it.
"""

import contextlib
import ctypes
import os
import select
import signal
from collections.abc import Iterator
from itertools import takewhile
from typing import NamedTuple

from twinlock_spawner.start import Start

# Numbers of security/_pam_types.h.
_CONV_ERR = 19
_ESTABLISH_CRED = 2
_DELETE_CRED = 4
_SILENT = 0x8000

_CLOSE_LIMIT = 5.0
"""Seconds for the modules to close a session."""


class _Conversation(ctypes.Structure):
    """``struct pam_conv``: how modules may ask something, and what that function is given."""

    _function = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)
    _fields_ = [("function", _function), ("data", ctypes.c_void_p)]

    @classmethod
    def silent(cls) -> "_Conversation":
        """One that answers nothing."""
        return cls(cls._function(lambda *_: _CONV_ERR), None)


class _Undo(NamedTuple):
    """A call that is due at the end of a session."""

    call: str
    flags: int


class Session:
    """A session of a start's account."""

    def __init__(self, start: Start) -> None:
        """Begin, pam_start(3). Raises `ValueError` or `OSError` where that isn't possible."""
        self._start = start
        self._handle = ctypes.c_void_p()
        self._pam = ctypes.CDLL("libpam.so.0")
        self._pam.pam_strerror.restype = ctypes.c_char_p
        self._pam.pam_getenvlist.restype = ctypes.POINTER(ctypes.c_char_p)
        self._silent = _Conversation.silent()  # the library keeps a pointer to it
        service = start.policy.pam_service.encode()
        user = start.request.user.encode()
        self._call("start", service, user, ctypes.byref(self._silent), ctypes.byref(self._handle))
        self._undo = [_Undo("end", 0)]

    def open(self) -> None:
        """Account rules, credentials, session; groups and environment of the start are then as the modules set them.

        Raises `ValueError` where the site's rules are against it.
        """
        start = self._start
        self._call("acct_mgmt", self._handle, _SILENT)
        os.setgroups(start.groups)  # before the credentials, which may be more groups
        self._call("setcred", self._handle, _SILENT | _ESTABLISH_CRED)
        self._undo.append(_Undo("setcred", _SILENT | _DELETE_CRED))
        self._call("open_session", self._handle, _SILENT)
        self._undo.append(_Undo("close_session", _SILENT))
        start.groups = os.getgroups()
        start.environment = dict(self._environment())

    def _environment(self) -> Iterator[tuple[str, str]]:
        """The variables that the modules have set."""
        entries = self._pam.pam_getenvlist(self._handle)
        for entry in takewhile(_is_entry, entries):
            name, _, value = os.fsdecode(entry).partition("=")
            yield name, value

    def close(self) -> None:
        """Undo what was done, in a process of its own: what hangs or crashes there changes nothing here.

        After five seconds it is left to the outer guard, which ends it with all else.
        """
        pid = os.fork()
        if pid == 0:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            for call, flags in reversed(self._undo):
                with contextlib.suppress(ValueError):
                    self._call(call, self._handle, flags)
            os._exit(0)
        ended, _, _ = select.select([os.pidfd_open(pid)], [], [], _CLOSE_LIMIT)
        if not ended:
            self._record("close", "it took too long")

    def _call(self, name: str, *arguments: object) -> None:
        """The administrator gets the reason, the user doesn't: it would tell about the site. Raises `ValueError`."""
        result = getattr(self._pam, f"pam_{name}")(*arguments)
        if result:
            self._record(name, self._pam.pam_strerror(self._handle, result).decode(errors="replace"))
            raise ValueError("the site's rules for accounts don't allow it now")

    def _record(self, call: str, reason: str) -> None:
        self._start.audit.record("pam-failed", id=self._start.request.id, call=call, reason=reason)


def _is_entry(entry: bytes | None) -> bool:
    """Whether it isn't the end of the list."""
    return entry is not None
