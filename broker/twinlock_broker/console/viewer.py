"""Who looks at the page: the account that the web server names in a header, and whether it is an administrator's."""

import hmac
import re
from dataclasses import dataclass

from aiohttp import web
from twinlock_common.offload import Offload

from twinlock_broker.console.keys import Settings
from twinlock_broker.errors import CommandError
from twinlock_broker.identity import account
from twinlock_broker.secret import Secret

SECRET_HEADER = "X-Twinlock-Secret"  # noqa: S105 - its name

_ACCOUNT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}\$?")
_LOOK_UP_LIMIT = 10.0
_LOOK_UPS = 8


@dataclass(frozen=True, slots=True)
class Viewer:
    """Somebody who looks at the page."""

    user: str
    """The account; it need not exist."""
    is_administrator: bool
    """Sees everybody's endpoints, not just those of this account."""


class Viewers:
    """The recognition of viewers."""

    def __init__(self, settings: Settings, secret: Secret[bytes] | None) -> None:
        self._settings = settings
        self._secret = secret
        self._lookups = Offload("lookup", _LOOK_UPS)

    def check_secret(self, request: web.Request) -> None:
        """Raise `HTTPForbidden` if the request isn't from the web server that knows the secret."""
        if self._secret is None:
            return
        given = request.headers.getall(SECRET_HEADER, [])
        sent = given[0].encode("utf-8", "surrogateescape") if len(given) == 1 else b""
        if not hmac.compare_digest(sent, self._secret.reveal()):
            reason = f"only the site's web server may ask here, and {SECRET_HEADER} isn't the secret that it knows"
            raise web.HTTPForbidden(text=reason)

    async def of(self, request: web.Request) -> Viewer:
        """Return who has sent the request. Raise `HTTPForbidden`, or `HTTPServiceUnavailable` if it can't be known."""
        name = self._settings.user_header
        given = request.headers.getall(name, [])
        if len(given) != 1 or not _ACCOUNT.fullmatch(given[0]):
            found = f"there are {len(given)} of it" if len(given) != 1 else "its value can't be an account's name"
            reason = f"the web server has to name one account in the header {name}, but {found}; see docs/console.md"
            raise web.HTTPForbidden(text=reason)
        return Viewer(given[0], await self._is_administrator(given[0]))

    async def _is_administrator(self, user: str) -> bool:
        if user in self._settings.administrators:
            return True
        groups = self._settings.administrator_groups
        if not groups:
            return False
        try:
            return await self._lookups.run(_LOOK_UP_LIMIT, lambda: account.is_member(account.look_up(user), groups))
        except CommandError:  # there is no such account
            return False
        except TimeoutError as error:
            raise web.HTTPServiceUnavailable(text="this host's name service doesn't answer; try again") from error
