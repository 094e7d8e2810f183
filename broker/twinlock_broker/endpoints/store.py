"""The records of user endpoints in the state folder: STATE/endpoints/UUID.json, readable by the broker alone."""

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from twinlock_common.files import replacing

from twinlock_broker.endpoints import record
from twinlock_broker.endpoints.disk import Disk
from twinlock_broker.endpoints.endpoint import Endpoint

log = logging.getLogger(__name__)


class Store:
    """The endpoints kept in `folder`, so that a broker that was killed at any moment goes on where it was.

    The files have to outlive this process. Those of endpoints that have to be started again after their end have to
    outlive the host as well: only these are synced to the disk, soon after they are written, since the loop doesn't
    wait for disks.
    """

    def __init__(self, folder: Path, amqp_port: int | None) -> None:
        self._folder = folder
        self._amqp_port = amqp_port
        self._disk = Disk()

    def save(self, endpoint: Endpoint) -> None:
        """Write the endpoint down. A full disk is reported in the log and stops nothing: what runs, runs."""
        path = self._path(endpoint)
        try:
            with replacing(path) as draft:
                draft.write_text(record.dump(endpoint))
            if endpoint.has_unfinished_tasks:
                self._disk.sync_soon(path)
        except OSError as error:
            log.error("%s: %s; if the broker ends now, this endpoint's waiting command is lost", path, error.strerror)

    def remove(self, endpoint: Endpoint) -> None:
        """Remove the endpoint's record."""
        with contextlib.suppress(OSError):
            self._path(endpoint).unlink(missing_ok=True)

    def load(self) -> Iterator[Endpoint]:
        """Yield all endpoints that were kept.

        One that can't be read is left out and reported in the log; its file stays to be looked at.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            found = sorted(self._folder.glob("*.json"))
        except OSError as error:
            log.error("%s: %s; a restart of the broker may lose commands", self._folder, error.strerror)
            return
        for path in found:
            try:
                yield record.load(path.read_text(), self._amqp_port)
            except (OSError, ValueError) as error:
                log.error("%s: can't be read; what waited for this endpoint is lost: %s", path, error)

    def _path(self, endpoint: Endpoint) -> Path:
        return self._folder / f"{endpoint.id}.json"
