"""The log: where the endpoint's standard output and error go, and what is written there."""

import logging
import os
import sys
from pathlib import Path

from twinlock_endpoint.config.configuration import Config
from twinlock_endpoint.errors import FolderError
from twinlock_endpoint.home import obstacles
from twinlock_endpoint.worker import texts

MAX_LOG = 10 << 20
"""Bytes after which a log is moved aside. Only the last one moved is kept, so there are at most two files."""

FORM = "%(asctime)s %(levelname)s %(name)s: %(message)s"
"""The form of an entry in the log."""

log = logging.getLogger(__name__)


class Output:
    """The files that standard output and error go to."""

    def __init__(self, files: dict[int, Path]) -> None:
        self._files = files
        for descriptor, path in files.items():
            _append_to(path, descriptor)

    def rotate(self) -> None:
        """Move a file that got long aside, in the place of the last such one, and begin it anew."""
        for path in set(self._files.values()):
            try:
                if path.stat().st_size > MAX_LOG:
                    path.replace(path.with_name(f"{path.name}.1"))
                    for descriptor in (number for number, chosen in self._files.items() if chosen == path):
                        _append_to(path, descriptor)
            except OSError as error:  # it goes on in the file that it has
                log.warning("The log %s can't be moved aside: %s", path.name, error.strerror)


def redirect(folder: Path, config: Config) -> Output:
    """Send standard output and error to the log; from here on nothing is told to the manager endpoint by accident."""
    logs = config.log_dir or folder
    usual = config.paths.get("endpoint_log", logs / "endpoint.log")
    chosen = {1: config.stdout, 2: config.stderr}
    try:
        output = Output({descriptor: logs / name if name else usual for descriptor, name in chosen.items()})
    except OSError as error:
        raise FolderError(f"The endpoint's log can't be opened: {obstacles.explain(logs, error)}") from error
    level = logging.DEBUG if config.debug else logging.INFO
    logging.basicConfig(level=level, stream=sys.stderr, force=True)
    for handler in logging.getLogger().handlers:
        handler.setFormatter(Short(FORM))
    # pika's own log has every frame, and Parsl's all that the endpoint's doesn't need to have twice.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    logging.getLogger("parsl").setLevel(level if config.debug else logging.WARNING)
    return output


def begin(request: str) -> None:
    """Log which request this endpoint was started for, by its id; an earlier manager endpoint doesn't say."""
    log.info("Started for the request %s, process %d", request or "(unknown)", os.getpid())


def undo() -> None:
    """Take back the settings of the log, for a fork of this process that is another program."""
    logging.captureWarnings(False)
    for handler in list(logging.root.handlers):
        logging.root.removeHandler(handler)
    logging.root.setLevel(logging.WARNING)
    for name in ("parsl", "pika"):
        logging.getLogger(name).setLevel(logging.NOTSET)


class Short(logging.Formatter):
    """The log's formatter. It limits the length of an entry, which may hold the text of a task's exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the entry."""
        return texts.cut(super().format(record))


def _append_to(path: Path, descriptor: int) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.dup2(opened, descriptor)
    os.close(opened)
