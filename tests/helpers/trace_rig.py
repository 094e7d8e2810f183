"""The logs of a host, as its parts write them: the broker's by its own formatter, the spawner's by its own class."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broker_rig import MANAGER
from spawner_rig import uep
from twinlock_broker.endpoints.registry import Action, Event
from twinlock_broker.logs import KeyValue
from twinlock_broker.trace import gather, log_files, sources
from twinlock_broker.trace.gather import Trace
from twinlock_endpoint.home.output import FORM, Short
from twinlock_spawner.audit import Audit
from twinlock_wire import wire

NOWHERE = Path("/no-such-folder/admin.sock")
_HANDLER, _LIFECYCLE, _SESSIONS = "endpoints.handler", "endpoints.lifecycle", "control.sessions"


@contextmanager
def broker_log(path: Path) -> Iterator[None]:
    """Have the loggers of the broker's parts write their lines there while the block runs."""
    logger, handler = logging.getLogger("twinlock_broker"), logging.FileHandler(path)
    handler.setFormatter(KeyValue())
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.setLevel(level)
        logger.removeHandler(handler)
        handler.close()


class Host:
    """The logs in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker_log = folder / "broker.log"
        self.audit_log = folder / "audit.log"
        self._audit = Audit(str(self.audit_log))

    def start(self, request: str, number: int, user: str, person: str = "ada@uni.example", pid: int = 0) -> str:
        """A start command of `person`, up to the endpoint's process; return the endpoint's uuid."""
        endpoint = uep(number)
        about = {"endpoint": endpoint, "command": request}
        self.say(_HANDLER, f"start command of {person}", **about)
        self.say(_HANDLER, f"mapped to the account {user} by the identity {uep(900 + number)}", **about, user=user)
        self.say(_LIFECYCLE, f"{Event.COMMAND.value}; {Action.START.value}", **about, user=user)
        spawn = wire.Spawn(endpoint, user, f"uep.{MANAGER}.{endpoint}", "endpoint", request)
        self._audit.record("spawn", **spawn._asdict())
        self._audit.record("identity", id=endpoint, user=user, uid=1000 + number, groups=[1000], command=request)
        self._audit.record("spawned", **wire.Spawned(endpoint, pid)._asdict(), command=request)
        self.say(_LIFECYCLE, Event.SPAWNED.value, **about, user=user)
        return endpoint

    def end(self, request: str, number: int, user: str, pid: int, status: int = 0) -> None:
        """The end of the endpoint's process, with a wait status."""
        self._audit.record("exited", **wire.Exited(uep(number), pid, status)._asdict(), command=request)
        self.say(_LIFECYCLE, Event.STOPPED.value, endpoint=uep(number), user=user, command=request)

    def jobs(self, request: str, number: int, user: str, *jobs: str) -> None:
        """An endpoint names batch jobs."""
        text = f"says that it has batch jobs: {', '.join(jobs)}"
        self.say(_SESSIONS, text, endpoint=uep(number), user=user, command=request)

    def say(self, logger: str, text: str, **about: str) -> None:
        """A line of the broker's."""
        values = {"name": f"twinlock_broker.{logger}", "levelname": "INFO", "msg": "%s", "args": (text,), **about}
        with self.broker_log.open("a") as file:
            file.write(KeyValue().format(logging.makeLogRecord(values)) + "\n")

    def logs(self, since: float = 0.0) -> sources.Logs:
        """The logs, to be read."""
        broker = sources.of_broker(str(self.broker_log), log_files.of_file(self.broker_log, since))
        spawner = sources.of_spawner(str(self.audit_log), log_files.of_file(self.audit_log, since))
        return sources.Logs([broker, spawner], since)

    def trace(self, word: str, with_tasks: bool = False) -> Trace:
        """The trace of a word, without a broker that could be asked."""
        return gather.trace(word, self.logs(), NOWHERE, with_tasks)


def texts(found: Trace) -> list[str]:
    """What happened, in words."""
    return [event.text for event in found.events]


def log_line(text: str, moment: float | None = None) -> str:
    """A line of an endpoint's log."""
    record = logging.makeLogRecord({"levelname": "INFO", "name": "twinlock_endpoint.htex.block_log", "msg": text})
    record.created = time.time() if moment is None else moment
    return Short(FORM).format(record) + "\n"
