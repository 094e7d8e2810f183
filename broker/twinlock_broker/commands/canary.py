"""``twinlock canary``: one task from submission to result, for Nagios and for the broker's metrics."""

import argparse
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from twinlock_broker.canary.attempt import Attempt, Failed
from twinlock_broker.canary.functions import FILE, KnownFunction
from twinlock_broker.canary.settings import CANARY_KEYS, Canary, TokenLogin, load
from twinlock_broker.canary.verdict import Status, Verdict
from twinlock_broker.command_line import add_command, add_state, find_folder, read_object
from twinlock_broker.commands.ask import add_socket, ask
from twinlock_broker.compute.registration import is_local
from twinlock_broker.config import placed
from twinlock_broker.config.folder import Folder, read_folder
from twinlock_broker.config.keys import describe
from twinlock_broker.errors import Fatal

DEFAULT = Path("/etc/twinlock/canary.yaml")
_MEMORY = 512 << 20
"""Bytes of the process's addresses: an answer without end doesn't take the host's memory."""

_AFTERWARDS_S = 10.0
"""Seconds for what is asked or told after the task."""

_EXAMPLES = f"""\
  sudo -u twinlock twinlock canary /etc/twinlock/endpoint
  sudo -u twinlock twinlock canary -w 10 -c 120 --options debug-queue.json /etc/twinlock/endpoint

It submits a task as the client in its own file, which only the account that runs it may read, waits for the result, and
prints one line as plugins of Nagios do. The line names the step that failed: login, submission, waiting at the service,
endpoint (with the error that users get) or result. It tells the broker, which exports it as the metrics
twinlock_canary_*; the figures are lost if there is no broker, and the line says so.
Its function is registered once; {FILE} in the state folder has its uuid, for allowed_functions.

keys of --config FILE (the command line wins):
{describe(CANARY_KEYS)}

exit codes: 0 the right result came in time; 1 it came late (-w); 2 a step failed, or no result came in time (-c); 3 it
  couldn't be tried: no login, or a file is missing or wrong; 100 usage
"""


class _Overdue(BaseException):
    """The time is over. No library takes it for an error of its own."""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "canary",
        "have a task run, for monitoring",
        _EXAMPLES,
        description="Have a task of a service account run, and say how long it took or which step failed.",
    )
    made.add_argument("folder", metavar="DIR", help="endpoint folder, which names the service and the endpoint")
    made.add_argument(
        "--config", type=Path, default=DEFAULT, metavar="FILE", help="the canary's own file (default %(default)s)"
    )
    made.add_argument("--options", metavar="FILE", help="JSON file with the options for the template; - is stdin")
    made.add_argument("-w", "--warning", type=_seconds, metavar="SECONDS", help="a result after this is a warning")
    made.add_argument("-c", "--critical", type=_seconds, metavar="SECONDS", help="wait no longer than this")
    add_state(made)
    add_socket(made)
    return made


def _seconds(text: str) -> float:
    """Return the number of seconds that a text says. Raise `ValueError`, which argparse reports."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError(text)
    return value


def run(given: argparse.Namespace) -> int:
    """Have a task run, tell the broker, print the line and return the exit code."""
    _limit_memory()
    limits = (0.0, 0.0)
    try:
        canary = _canary(given)
        limits = canary.warning, canary.critical
        verdict = _verdict(given, canary)
    except Fatal as error:
        verdict = Verdict(Status.UNKNOWN, str(error))
    except Exception as error:  # Python's own exit code would be that of a warning
        verdict = Verdict(Status.UNKNOWN, f"unexpected, please report it: {error!r}")
    print(verdict.line(*limits, _tell(given.socket, verdict)))
    return verdict.status


def _limit_memory() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY if most == resource.RLIM_INFINITY else min(_MEMORY, most), most))


def _canary(given: argparse.Namespace) -> Canary:
    if os.geteuid() == 0:
        raise Fatal(os.EX_NOPERM, "root talks to no service: sudo -u twinlock twinlock canary ...")
    chosen = {name: getattr(given, name) for name in ("warning", "critical") if getattr(given, name) is not None}
    if given.options is not None:
        chosen["options"] = read_object(given.options)
    return load(given.config, chosen)


def _verdict(given: argparse.Namespace, canary: Canary) -> Verdict:
    folder = read_folder(find_folder(given.folder))
    state = placed.find(folder.path, given.state).state
    if isinstance(canary.login, TokenLogin) and not is_local(folder):
        raise Fatal(os.EX_NOPERM, f"{given.config}: a token is for the local service; give client_id and client_secret")
    attempt = Attempt(folder, _endpoint_id(folder, state), canary, KnownFunction(state / FILE))
    began = time.monotonic()
    try:
        with _limit(canary.critical):
            attempt.run()
    except Failed as error:
        return Verdict(error.status, str(error), time.monotonic() - began)
    except MemoryError:
        return Verdict(Status.CRITICAL, f"{attempt.progress}: an answer is too large", time.monotonic() - began)
    except _Overdue:
        seconds = time.monotonic() - began
        return Verdict(Status.CRITICAL, _overdue(attempt, canary.critical), seconds)
    seconds = time.monotonic() - began
    status = Status.OK if seconds <= canary.warning else Status.WARNING
    return Verdict(status, f"result after {seconds:.1f} s", seconds)


def _endpoint_id(folder: Folder, state: Path) -> str:
    found = folder.endpoint_id(state)
    if found is None:
        raise Fatal(os.EX_NOINPUT, f"{state}: no endpoint.json; the broker has never registered this endpoint")
    return found


def _overdue(attempt: Attempt, limit: float) -> str:
    text = f"{attempt.progress}: no result within {limit:g} s"
    try:
        with _limit(_AFTERWARDS_S):
            state = attempt.endpoint_state()
    except (_Overdue, MemoryError):
        state = ""
    return f"{text}; the manager endpoint is {state}" if state else text


def _tell(socket: Path, verdict: Verdict) -> str:
    """Tell the broker, and return what to add to the line if it couldn't be told."""
    report = {"request": "canary", "success": verdict.succeeded, "seconds": verdict.seconds, "text": verdict.text}
    try:
        ask(socket, report, limit=_AFTERWARDS_S)
    except Fatal as error:
        return f"; not in the metrics: {error}"
    return ""


@contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise `_Overdue` in the block when so many seconds have passed, whatever it does then."""
    signal.signal(signal.SIGALRM, _interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _interrupt(*_: object) -> NoReturn:
    raise _Overdue
