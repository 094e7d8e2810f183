"""The last failures of starts and endpoints, each with what led to it, for the administrator; in memory only."""

import json
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.errors import CommandError
from twinlock_broker.fair_ring import FairRing
from twinlock_broker.hidden import hide

MOST = 100
"""Failures that are kept."""

MOST_COMMANDS = 500
"""Start commands of which it is known when they came, and from whom."""

LONGEST = 2000
"""Characters of each text of a failure."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure. Texts are empty where nothing is known; times are in seconds since 1970."""

    endpoint: str
    """The user endpoint's uuid."""
    command: str
    """The start command's id, which is the error id in what its user was told."""
    stage: str
    """What failed: `command`, `identity mapping`, `rendering`, a stage of the spawner's, or `program`."""
    reason: str
    """What the user was told, or would have been if the endpoint weren't started again."""
    detail: str = ""
    """What only the administrator is told."""
    printed: str = ""
    """The last that the program printed before it opened its own log."""
    identity: str = ""
    """The identity in the command."""
    mapped: str = ""
    """The uuid of the identity by which the account was found."""
    user: str = ""
    """The account."""
    options: str = ""
    """The user's options as JSON, without what looks secret."""
    commanded: float | None = None
    """When the command came; None if that was before this broker, or long ago."""
    at: float = field(default_factory=time.time)
    """When it failed."""


class Failures:
    """The last failures."""

    def __init__(self) -> None:
        self._kept: FairRing[Failure] = FairRing(MOST)
        self._commands: OrderedDict[str, tuple[float, str]] = OrderedDict()

    def commanded(self, command: str, identity: str) -> None:
        """Note that a start command came now, from a person with this identity."""
        self._commands[command] = time.time(), identity[:LONGEST]
        if len(self._commands) > MOST_COMMANDS:
            self._commands.popitem(last=False)

    def refused(self, endpoint_id: str, command: str, error: CommandError) -> None:
        """Note that a start command can't be carried out."""
        known = {"reason": error.text, "detail": error.detail, "user": error.user, "options": _shown(error.options)}
        self._add(endpoint=endpoint_id, command=command, stage=error.stage or "command", **known)

    def failed(self, endpoint: Endpoint, stage: str, reason: str, detail: str) -> None:
        """Note that an endpoint couldn't be started, or ended badly."""
        known = {"reason": reason, "detail": detail, "user": endpoint.user}
        known["printed"] = endpoint.output.text if endpoint.output is not None else ""
        if endpoint.request is not None:
            known["options"] = _shown(endpoint.request.options)
            known["mapped"] = endpoint.request.document.match.identity or ""
        self._add(endpoint=endpoint.id, command=endpoint.command, stage=stage, **known)

    def of(self, endpoint_id: str | None) -> list[dict[str, Any]]:
        """Return those of an endpoint, or all for None, as JSON has them, the newest first."""
        found = [asdict(failure) for failure in self._kept if endpoint_id in (None, failure.endpoint)]
        return found[::-1]

    def _add(self, **texts: str) -> None:
        commanded, identity = self._commands.get(texts["command"], (None, ""))
        cut: dict[str, Any] = {name: text[:LONGEST] for name, text in texts.items()}
        self._kept.add(texts["user"], Failure(**cut, commanded=commanded, identity=identity))


def _shown(options: Mapping[str, Any]) -> str:
    """Return the options as JSON, or how long they are."""
    if not options:
        return ""
    length = len(json.dumps(options))
    return f"{length} characters" if length > LONGEST else json.dumps(hide(dict(options)))
