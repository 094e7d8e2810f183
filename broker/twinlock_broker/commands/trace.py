"""``twinlock trace``: what happened, by the logs of broker, spawner, endpoint and scheduler."""

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, complete_endpoint, complete_user
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable
from twinlock_broker.trace import gather, log_files, sources, table
from twinlock_broker.trace.since import since_of

_NOTHING = 1
"""The exit code if nothing was found."""

_AUDIT_LOG = Path("/var/log/twinlock/audit.log")
_TASK_LOGS = (Path("/var/log"), ("twinlock-broker/*.log", "twinlock-instances/*/*.log"))
_SINCE = "7d"
_WIDTH = 120
"""Characters of a line where the output isn't a terminal."""

_EXAMPLES = f"""\
  sudo twinlock trace 3f9a1c07
  sudo twinlock trace ada@uni.example --since 2026-11-30T08:00
  sudo twinlock trace 41523 --tasks
  sudo twinlock trace ada --json | jq 'select(.user_written | not)'

WORD is an error id, a person's name at the Compute service or the part of it before the @, a local account, the uuid of
a user endpoint or its beginning, that of an identity, a process of this host, or a batch job. A word that may be
several of these is looked for as each, and the first line of the output says what it was.

columns:
{table.COLUMNS}
What can't be read is named on standard error, and the rest is printed. --json prints an object for each event.
exit codes: 0 done; 1 nothing was found; 64 the word is empty; 74 standard input can't be kept; 100 usage
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(commands, "trace", "show what happened, from all logs in order", _EXAMPLES)
    word = made.add_argument(
        "word", metavar="WORD", help="what to look for: a user, endpoint, error id, process or job"
    )
    word.completer = _complete  # type: ignore[attr-defined]
    made.add_argument(
        "--since", default=_SINCE, metavar="TIME", help=f"how far back: a time, or a duration such as 12h ({_SINCE})"
    )
    made.add_argument("--tasks", action="store_true", help="show each task, not only how many there were")
    made.add_argument("--json", action="store_true", help="print a JSON object for each event")
    made.add_argument(
        "--broker-log", metavar="FILE", help="the broker's log, - for standard input (default: the journal)"
    )
    made.add_argument(
        "--audit-log",
        type=Path,
        default=_AUDIT_LOG,
        metavar="FILE",
        help=f"the spawner's audit log; rotated ones beside it are read as well (default {_AUDIT_LOG})",
    )
    made.add_argument(
        "--task-audit-log",
        type=Path,
        metavar="FILE",
        help="a high assurance endpoint's audit_log_path (default: the files where the packages have them)",
    )
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Print the trace and return the exit code."""
    if not given.word:
        raise Fatal(os.EX_USAGE, "what is to be traced? The word that was given is empty")
    since = since_of(given.since)
    logs = _logs(given, since)
    found = gather.trace(given.word, logs, given.socket, given.tasks)
    for problem in logs.problems:
        print(f"twinlock: {printable(problem)}", file=sys.stderr)
    if not found.events:
        print(f"twinlock: {_nothing(given, logs)}", file=sys.stderr)
        return _NOTHING
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH
    for line in table.objects(found) if given.json else table.lines(found, given.word, width):
        print(line)
    return os.EX_OK


def _logs(given: argparse.Namespace, since: float) -> sources.Logs:
    """Return the logs that the options name. Raise `Fatal` (74)."""
    name = given.broker_log
    try:
        if name is None:
            broker = sources.of_broker("the broker's log in the journal", log_files.of_journal(since))
        elif name == "-":
            broker = sources.of_broker("standard input", log_files.of_stdin())
        else:
            broker = sources.of_broker(name, log_files.of_file(Path(name), since))
    except OSError as error:
        raise Fatal(os.EX_IOERR, f"standard input: can't be kept in a temporary file: {error.strerror}") from error
    spawner = sources.of_spawner(str(given.audit_log), log_files.of_file(given.audit_log, since))
    tasks = [sources.of_tasks(str(path), log_files.of_file(path, since)) for path in _task_logs(given.task_audit_log)]
    return sources.Logs([broker, spawner, *tasks], since)


def _task_logs(named: Path | None) -> list[Path]:
    folder, forms = _TASK_LOGS
    return [named] if named is not None else sorted(path for form in forms for path in folder.glob(form))


def _nothing(given: argparse.Namespace, logs: sources.Logs) -> str:
    looked = [log.name for log in logs.logs if not log.failed]
    where = f"looked in {' and '.join(looked)}" if looked else "no log could be read"
    return f"nothing is known of {printable(given.word, 100)!r} since {given.since}: {where}; try a longer --since"


def _complete(prefix: str, parsed_args: argparse.Namespace, **others: Any) -> Sequence[str]:
    """Return the accounts that have endpoints, and the endpoints' uuids, for tab completion."""
    users = complete_user(prefix, parsed_args, **others)
    return [*users, *complete_endpoint(prefix, parsed_args, **others)]
