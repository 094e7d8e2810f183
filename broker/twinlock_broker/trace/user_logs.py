"""What users' own files, and the scheduler, add to the runs that the host's logs have."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from twinlock_broker import account_files
from twinlock_broker.account_files import UnreadableError
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable
from twinlock_broker.trace import endpoint_log, scheduler, tasks
from twinlock_broker.trace.event import Event
from twinlock_broker.trace.live import Broker
from twinlock_broker.trace.selection import Run

MOST = 20
"""Endpoints whose files are read, those that ran last."""

_ADVICE = "`twinlock my log`, as the account, shows what it has"

Read = Callable[[Run, Path], list[str]]


class UserLogs:
    """The reader of users' files, with what `broker` says about where they are.

    What can't be read is added to `problems`. `with_tasks` wants each task.
    """

    def __init__(self, broker: Broker | None, problems: list[str], with_tasks: bool) -> None:
        self._broker = broker
        self._problems = problems
        self._with_tasks = with_tasks
        self._silent: set[str] = set()  # accounts whose files can't be read

    def events(self, runs: Sequence[Run], known: Iterable[Event]) -> list[Event]:
        """Return the events of the runs' users' files, and of their batch jobs; `known` may name further jobs."""
        found: list[Event] = []
        by_endpoint: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            if run.user and (run.name or self._broker):
                by_endpoint[run.endpoint].append(run)
        chosen = sorted(by_endpoint.values(), key=lambda each: max(run.end for run in each))[-MOST:]
        if len(by_endpoint) > MOST:
            left_out = len(by_endpoint) - MOST
            self._problems.append(f"the users' logs of {left_out} older endpoints aren't read; trace one by its uuid")
        for each in chosen:
            found += self._of_endpoint(each)
        return found + list(_jobs([*known, *found]))

    def _of_endpoint(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Yield the events of one endpoint, whose files are read once for all of its runs."""
        lines = self._read(runs[-1], endpoint_log.read, "endpoint.log")
        ended = self._read(runs[-1], endpoint_log.read_tasks, "tasks.log")
        shown = tasks.one_by_one if self._with_tasks else tasks.summary
        for run in [run for run in runs if run.pid] or runs:  # a later request may have found the process running
            yield from endpoint_log.events(lines, run)
            yield from shown(endpoint_log.tasks(ended, run), run)

    def _read(self, run: Run, read: Read, name: str) -> list[str]:
        """Return the lines of a file. An account whose files can't be read once isn't asked again."""
        if run.user in self._silent:
            return []
        try:
            return read(run, self._folder(run))
        except (UnreadableError, Fatal) as error:
            self._silent.add(run.user)
            text = printable(str(error), 300)
            self._problems.append(f"{name} of {run.user}'s endpoint {run.endpoint}: can't be read: {text}; {_ADVICE}")
            return []

    def _folder(self, run: Run) -> Path:
        user_dir = ""
        manager = run.name.split(".")[1] if run.name.count(".") == 2 else ""
        if self._broker is not None:
            manager = manager or self._broker.manager
            user_dir = self._broker.user_dir(run.endpoint)
        return account_files.folder_of(run.user, manager, run.endpoint, user_dir)


def _jobs(events: Iterable[Event]) -> Iterator[Event]:
    """Yield what the scheduler says of the jobs in these events, where they are the account's own.

    An endpoint names its jobs itself, and could name those of others.
    """
    named = {(event.user, job): event for event in events for job in event.jobs}
    for job in scheduler.ask([job for _, job in named]).values():
        event = named.get((job.user, job.id))
        if event is not None:
            yield from job.events(event.request, event.endpoint)
