"""The watcher of the users file: a change counts at once, and those it no longer lets in are cut off from RabbitMQ."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from twinlock_service.context import Context
from twinlock_service.errors import StartError
from twinlock_service.rabbitmq.management import ManagementError
from twinlock_service.state.endpoints import Endpoint
from twinlock_service.state.result_logins import ResultLogin
from twinlock_service.users.directory import Users
from twinlock_service.users.users_file import UsersFile, read_users_file

log = logging.getLogger(__name__)

POLL = 0.5
"""Seconds between looks at the file. A change counts when it is as old as that: editors empty a file first."""

RETRY = 5.0
"""Seconds until the next attempt when one has failed."""

Stamp = tuple[int, int, int] | None


class UsersWatcher:
    """What is known of the users file, and who was cut off."""

    def __init__(self, context: Context, path: Path) -> None:
        self._context = context
        self._path = path
        self._seen: Stamp = None
        self._loaded: Stamp = None
        self._cut_off: set[str] = set()
        """Endpoints, by uuid, whose owner is gone."""

    async def run(self) -> None:
        """Follow the users file until this is cancelled."""
        while True:
            delay = POLL
            try:
                await self._reload_if_changed()
                await self.cut_off()
            except ManagementError as error:
                log.warning("%s; users who lost access are cut off from RabbitMQ as soon as possible", error)
                delay = RETRY
            except Exception:
                # Whatever it was, later changes have to be followed.
                log.exception("the users file could not be followed; trying again in %.0f s", RETRY)
                delay = RETRY
            await asyncio.sleep(delay)

    async def cut_off(self) -> None:
        """Delete the RabbitMQ users of those without access, which closes their connections.

        Raise `ManagementError` if one can't be deleted; the others are deleted.
        """
        context = self._context
        lost = [each for each in context.result_logins.all() if context.users.by_credential(each.credential) is None]
        works = [*(self._remove_login(each) for each in lost), *(self._cut_off_one(each) for each in self._ownerless())]
        for outcome in await asyncio.gather(*works, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _remove_login(self, login: ResultLogin) -> None:
        await self._context.topology.remove_user(login)
        self._context.result_logins.forget(login)
        log.info("RabbitMQ user %s is deleted: its token or secret is no longer good", login.name)

    async def _cut_off_one(self, endpoint: Endpoint) -> None:
        self._context.endpoints.renew_password(endpoint.id)
        await self._context.topology.cut_off(endpoint)
        self._cut_off.add(endpoint.id)
        log.info("endpoint %s is cut off: its owner %s is no longer known", endpoint.id, endpoint.owner)

    def _ownerless(self) -> list[Endpoint]:
        context = self._context
        gone = [owner for owner in context.endpoints.owners() if context.users.by_id(owner) is None]
        endpoints = [endpoint for owner in gone for endpoint in context.endpoints.owned_by(owner)]
        self._cut_off &= set(endpoints)
        # A request that was under way may have made the RabbitMQ user again.
        again = self._cut_off & context.topology.endpoints
        return [context.endpoints[each] for each in endpoints if each not in self._cut_off or each in again]

    async def _reload_if_changed(self) -> None:
        last, self._seen = self._seen, _stamp(self._path)
        if self._seen == self._loaded or self._seen != last:
            return
        self._loaded = self._seen
        try:
            # Beside the event loop: a thousand users take a second.
            document = await asyncio.to_thread(read_users_file, self._path)
        except StartError as error:
            log.error("%s; what it said before stays in force", error)
            return
        warn_of_plain_tokens(self._path, document)
        self._context.users = Users(document, self._context.tokens.first_seen)
        log.info("the users file %s is in force as it is now", self._path)


def warn_of_plain_tokens(path: Path, document: UsersFile) -> None:
    """Log which users' tokens can be used by whoever reads the file."""
    names = [name for name, entry in document.users.items() if entry.token is not None]
    if names:
        text = (
            "the users file %s has the tokens of %d users as they are; any change by `twinlock-service user` hides them"
        )
        log.warning(text, path, len(names))


def _stamp(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
