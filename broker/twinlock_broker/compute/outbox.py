"""Failure notices that haven't gone out yet, one file for each in the state folder: they outlive the broker."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twinlock_common.files import replacing

from twinlock_broker.compute.command import Credentials, read_credentials

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Notice:
    """What a user is told about an endpoint."""

    credentials: Credentials
    """The endpoint's, with which the notice is sent."""
    text: str
    """For the user."""
    error_id: str
    """By it the administrator finds the start command in the logs."""
    made: float = field(default_factory=time.time)
    """In seconds since 1970."""

    @property
    def endpoint(self) -> str:
        """The user endpoint's uuid."""
        return self.credentials.endpoint_id

    @property
    def about(self) -> dict[str, str]:
        """What the notice is about, for the log."""
        return {"endpoint": self.endpoint, "error_id": self.error_id}


class Outbox:
    """The newest notice of each endpoint, kept in `folder` for the broker's eyes only. `amqp_port` as for a command."""

    def __init__(self, folder: Path, amqp_port: int | None) -> None:
        self._folder = folder
        self._amqp_port = amqp_port

    def save(self, notice: Notice) -> None:
        """Write the notice down. A full disk is reported in the log, and the notice is sent all the same."""
        path = self._path(notice)
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            with replacing(path) as draft:
                draft.write_text(_dump(notice))
        except OSError as error:
            log.error("%s: %s; if the broker ends now, a user isn't told", path, error.strerror, extra=notice.about)

    def remove(self, notice: Notice) -> None:
        """Remove a notice that was sent, or is of no use any more."""
        with contextlib.suppress(OSError):
            self._path(notice).unlink(missing_ok=True)

    def load(self) -> Iterator[Notice]:
        """Yield all notices that an earlier broker left. One that can't be read is reported in the log."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield _load(json.loads(path.read_text()), self._amqp_port)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.error("%s: can't be read; a user isn't told: %r", path, error)

    def _path(self, notice: Notice) -> Path:
        return self._folder / f"{notice.endpoint}.json"


def _dump(notice: Notice) -> str:
    plain = {"text": notice.text, "error_id": notice.error_id, "made": notice.made}
    return json.dumps(plain | {"amqp": notice.credentials.amqp.reveal()})


def _load(values: dict[str, Any], amqp_port: int | None) -> Notice:
    found = read_credentials(values["amqp"], amqp_port)
    return Notice(found, str(values["text"]), str(values["error_id"]), float(values["made"]))
