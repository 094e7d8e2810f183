"""Blocks that end before their time: what is told about them, and when there is no hope for the tasks that wait."""

import time
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from parsl.executors.high_throughput.errors import ManagerLost
from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.jobs.error_handlers import simple_error_handler, windowed_error_handler
from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus

_SHOWN_JOBS = 3
_SHOWN_LINES = 5
_FRESH_S = 5.0


class LostWorkers:
    """Adds what the scheduler says of ended jobs to the errors of tasks whose workers were lost."""

    def __init__(self, parsl: HighThroughputExecutor) -> None:
        self._parsl = parsl
        self._asked = float("-inf")
        self._said = ""

    def explain(self, future: Future[Any]) -> None:
        """Add it to the error of this task, if it is of that kind. Called in Parsl's thread for results."""
        error = future.exception()
        if not isinstance(error, ManagerLost):
            return
        if time.monotonic() - self._asked > _FRESH_S:  # one node may have had many tasks
            self._ask()
        if self._said:
            error.add_note(self._said)

    def _ask(self) -> None:
        self._said = ""
        with suppress(Exception):  # a scheduler that doesn't answer; errors stand without its words
            self._said = told(self._parsl, self._parsl.status())
        self._asked = time.monotonic()
        self._parsl._last_poll_time = 0.0  # new workers needn't wait until the poller asks by itself


def told(parsl: HighThroughputExecutor, statuses: dict[str, JobStatus]) -> str:
    """A paragraph for each of the last jobs that ended without this endpoint's doing."""
    ended = [block for block, status in statuses.items() if status.terminal and status.state != JobState.SCALED_IN]
    paragraphs = []
    for block in sorted(ended, key=int)[-_SHOWN_JOBS:]:
        status = statuses[block]
        said = [status.message or "", *(status.stderr_summary or "").splitlines()[-_SHOWN_LINES:]]
        first = f"The batch job {parsl.blocks_to_job_id.get(block, '')} ended as {status.status_name}"
        paragraphs.append("\n".join([first, *(line for line in said if line.strip())]))
    return "\n".join(paragraphs)


def hope_less(parsl: HighThroughputExecutor) -> None:
    """Change when Parsl fails all tasks because blocks fail.

    Parsl does so if every one failed, and if only the first did. A block whose workers came, and that failed later,
    says nothing about the next. But where no block runs and the last three failed it is time; else a project whose
    hours are used up after some good blocks would leave tasks waiting without end.
    """
    if parsl.block_error_handler is simple_error_handler:
        parsl.block_error_handler = _give_up_on_failures


def _give_up_on_failures(parsl: HighThroughputExecutor, statuses: dict[str, JobStatus]) -> None:
    failed = any(status.state == JobState.FAILED for status in statuses.values())
    worked = _worked(parsl) if failed else set()
    simple_error_handler(parsl, {block: status for block, status in statuses.items() if block not in worked})
    if not parsl.bad_state_is_set and not _active(statuses):
        windowed_error_handler(parsl, statuses)


def _worked(parsl: HighThroughputExecutor) -> set[str]:
    "The blocks whose workers have come; none where there is no interchange to ask."
    with suppress(Exception):
        return set(parsl.connected_blocks())
    return set()


def fail_where_nothing_will_run(parsl: HighThroughputExecutor, strategy: str) -> None:
    """Fail all tasks where no block is left and the configuration allows no further one."""
    statuses = parsl.status_facade
    ever = strategy != "none" and parsl.provider.max_blocks > 0
    if ever or not parsl.outstanding() or _active(statuses) or parsl.bad_state_is_set:
        return
    why = f"strategy: {strategy}, init_blocks: {parsl.provider.init_blocks}, max_blocks: {parsl.provider.max_blocks}"
    reason = f"There are no workers, and the configuration asks for no more blocks ({why})."
    parsl.set_bad_state_and_fail_all(RuntimeError("\n".join([reason, told(parsl, statuses)])))


def _active(statuses: dict[str, JobStatus]) -> bool:
    return any(status.state not in TERMINAL_STATES for status in statuses.values())
