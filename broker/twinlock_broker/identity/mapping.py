"""The administrator's mapping, from the identities in a command to the name of a local account."""

import logging
import os
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from globus_identity_mapping.loader import load_mappers
from globus_identity_mapping.mappers.external_program import ExternalIdentityMapping

from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity.documents import in_words, read_documents, require_known
from twinlock_broker.identity.external import ExternalMapper

POSIX_CONNECTOR = "145812c8-decc-41f1-83cf-bb2a85a2a70b"
"""Globus' id of its POSIX connector; external mappers get it as ``-c``, as from the agent."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Match:
    """The account that a person is mapped to, and how. In same-user mode nothing is mapped."""

    user: str
    """The account's name."""
    identity: str | None = None
    """The uuid of the identity that led to it; None in same-user mode."""
    candidates: list[list[dict[str, list[str]]]] = field(default_factory=list)
    """All matches, a list for each mapper, in the agent's format; empty in same-user mode."""


class Mapper:
    """The mapping in the file `path`, for the endpoint `endpoint_id`. It is read again if the file changed.

    If the file became bad, the former mapping stays in force.
    """

    def __init__(self, path: Path, endpoint_id: str, tell: Callable[[str], None] = log.warning) -> None:
        """Read the mapping. Raise `Fatal` (78) for a file that can't be used.

        `tell` gets a sentence for each mapper that fails.
        """
        self.path = path
        self._tell = tell
        self._endpoint_id = endpoint_id
        self._mappers: list[Any] = []
        self._seen: tuple[int, ...] = ()
        self._complaint = ""
        self.loaded_at = 0.0
        """When the mapping in force was read, in seconds since 1970."""
        try:
            self._load()
        except Exception as error:  # the library lets anything through that a bad file provokes
            raise Fatal(os.EX_CONFIG, f"{path}: the identity mapping can't be read: {in_words(error)}") from error

    @property
    def is_current(self) -> bool:
        """Whether the mapping in force is that of the file, as far as the last look at the file has shown."""
        return not self._complaint

    def map(self, identities: Collection[Mapping[str, Any]]) -> list[Match]:
        """Return all matches, the first mapper's first. Raise `CommandError` if there is none.

        Blocks: a mapper may be a program.
        """
        self.refresh()
        asked = [self._ask(mapper, identities) for mapper in self._mappers]
        candidates = [matches or [] for matches in asked]
        pairs = [item for matches in candidates for match in matches for item in match.items()]
        found = [Match(user, identity, candidates) for identity, users in pairs for user in users]
        if not found and None in asked:
            raise CommandError(
                f"This site couldn't find out who you are here, {_names(identities)}: its identity mapping failed. "
                "Submit again later; if that doesn't help, tell the endpoint's administrator"
            )
        if not found:
            raise CommandError(
                f"None of your identities maps to an account of this site: {_names(identities)}. "
                "Ask the endpoint's administrator for access, and name the identity that you log in with"
            )
        return found

    def _ask(self, mapper: Any, identities: Collection[Mapping[str, Any]]) -> list[dict[str, list[str]]] | None:
        """Return the mapper's matches; None if the site's program failed."""
        try:
            return [match for match in mapper.map_identities(identities) if match]
        except Exception as error:  # one bad mapper, or one odd identity, doesn't end the others
            self._tell(f"mapper {type(mapper).__name__} failed, the next one is asked: {error!r}")
            return None if isinstance(mapper, ExternalMapper) else []

    def refresh(self) -> None:
        """Read the file again if it changed. A bad one leaves the former mapping in force. Blocks."""
        try:
            if self._stamp() != self._seen:
                self._load()
                log.info("identity mapping read again: %s", self.path)
            self._complaint = ""
        except Exception as error:  # as at the start
            if repr(error) != self._complaint:
                log.error(
                    "THE CHANGED IDENTITY MAPPING IS NOT IN FORCE; the previous one still is: %s: %s",
                    self.path,
                    in_words(error),
                )
            self._complaint = repr(error)

    def _load(self) -> None:
        stamp = self._stamp()
        documents = read_documents(self.path)
        require_known(documents)
        mappers = load_mappers(documents, POSIX_CONNECTOR, self._endpoint_id)
        self._mappers = [
            ExternalMapper(made) if isinstance(made, ExternalIdentityMapping) else made for made in mappers
        ]
        self.loaded_at = time.time()
        self._seen = stamp  # set last: another thread that finds nothing changed uses the new mapping

    def _stamp(self) -> tuple[int, ...]:
        stat = self.path.stat()
        return stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size


def same_user(identities: Collection[Mapping[str, Any]], allowed: Collection[str], user: str) -> Match:
    """Return a match with the broker's own account for identities of the login that registered the endpoint.

    Raise `CommandError` for others.
    """
    if not any(identity["sub"] in allowed for identity in identities):
        raise CommandError(
            "This endpoint serves nobody but the identity that registered it (it runs without a privileged spawner). "
            f"You are {_names(identities)}: submit to an endpoint that serves you"
        )
    return Match(user)


def _names(identities: Collection[Mapping[str, Any]]) -> str:
    return ", ".join(str(identity.get("username") or identity["sub"])[:100] for identity in list(identities)[:10])
