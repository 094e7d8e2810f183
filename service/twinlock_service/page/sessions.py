"""Who is logged in at the page: sessions in memory, which a restart ends, each as good as the token behind it."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from aiohttp import web

from twinlock_service.users.digests import digest
from twinlock_service.users.directory import Login

LIFETIME = 8 * 3600.0
"""Seconds after which people log in again."""

MOST = 20
"""Sessions at a time with one token; the oldest ends for another one."""


@dataclass(frozen=True, slots=True)
class _Session:
    credential: str
    expires: float


class Sessions:
    """The sessions, by the digest of what the cookie has."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}

    def begin(self, login: Login) -> str:
        """Begin a session, and return the value of its cookie."""
        cookie = secrets.token_urlsafe(32)
        now = time.monotonic()
        self._sessions = {key: each for key, each in self._sessions.items() if each.expires > now}
        of_this = [key for key, each in self._sessions.items() if each.credential == login.credential]
        for key in of_this[: len(of_this) + 1 - MOST]:
            del self._sessions[key]
        self._sessions[digest(cookie)] = _Session(login.credential, now + LIFETIME)
        return cookie

    def credential(self, cookie: str) -> str | None:
        """Return the credential with which this session was begun, or None if there is no such session any more."""
        session = self._sessions.get(digest(cookie))
        return session.credential if session and session.expires > time.monotonic() else None

    def end(self, cookie: str) -> None:
        """End a session."""
        self._sessions.pop(digest(cookie), None)


SESSIONS = web.AppKey("sessions", Sessions)
