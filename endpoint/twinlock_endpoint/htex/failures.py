"""Errors for tasks that wait in vain: blocks fail, and there is no hope that another will run them."""

import time
from contextlib import suppress

from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.jobs.error_handlers import simple_error_handler, windowed_error_handler
from parsl.jobs.errors import TooManyJobFailuresError
from parsl.jobs.states import TERMINAL_STATES, JobState, JobStatus

from twinlock_endpoint.htex.executor import Executor
from twinlock_endpoint.htex.jobs import describe_ended
from twinlock_endpoint.htex.submissions import Submissions

_REFUSALS = 3
_JUST_WORKED_S = 300.0


class SchedulerOutageError(RuntimeError):
    """The batch scheduler could not be reached for longer than the configuration allows."""


class FailureRule:
    """The rule that fails all tasks of an executor if blocks fail and no other one is there that could run them.

    Parsl does so if every block failed, and if only a further one did while the first runs. Here a job that is refused
    costs nothing while a block runs, waits in the scheduler's queue, or has had workers in the last minutes: limits of
    users and projects come and go. A project whose hours are used up leaves no task waiting without end all the same.
    """

    def __init__(self, submissions: Submissions) -> None:
        self._submissions = submissions
        self._last_worked = float("-inf")

    def use_in(self, parsl: HighThroughputExecutor) -> None:
        """Take the place of Parsl's own rule, unless the configuration names another."""
        if parsl.block_error_handler is simple_error_handler:
            parsl.block_error_handler = self._apply

    def _apply(self, parsl: Executor, statuses: dict[str, JobStatus]) -> None:
        """Fail all tasks if that is due; called by Parsl's poller each period.

        A job that was perhaps submitted may yet run.
        """
        worked = _were_good(parsl, statuses)
        if any_active(statuses):
            if any(statuses[block].state not in TERMINAL_STATES for block in worked & statuses.keys()):
                self._last_worked = time.monotonic()
        elif parsl.submitted.doubtful():
            return
        elif self._submissions.refused:
            self._consider_refusals(parsl, statuses, bool(worked))
        elif worked:
            windowed_error_handler(parsl, statuses)
        else:
            simple_error_handler(parsl, statuses)

    def _consider_refusals(self, parsl: HighThroughputExecutor, statuses: dict[str, JobStatus], worked: bool) -> None:
        enough = _REFUSALS if worked else min(_REFUSALS, max(1, parsl.provider.init_blocks))
        just_worked = time.monotonic() < self._last_worked + _JUST_WORKED_S
        if self._submissions.refused >= enough and not just_worked:
            text = "\n".join([self._submissions.condition(), describe_ended(parsl, statuses)])
            parsl.set_bad_state_and_fail_all(TooManyJobFailuresError(text))


def _were_good(parsl: HighThroughputExecutor, statuses: dict[str, JobStatus]) -> set[str]:
    """Return the blocks whose workers have come, or that were given back.

    Which ones the first are can't be told without an interchange.
    """
    given_back = {block for block, status in statuses.items() if status.state == JobState.SCALED_IN}
    with suppress(Exception):
        return given_back | set(parsl.connected_blocks())
    return given_back


def any_active(statuses: dict[str, JobStatus]) -> bool:
    """Return whether a block runs, or waits in the scheduler's queue."""
    return any(status.state not in TERMINAL_STATES for status in statuses.values())


def fail_where_nothing_will_run(parsl: Executor, strategy: str) -> None:
    """Fail all tasks if no block is left and the configuration allows no further one, or nobody takes its job."""
    statuses, submissions = parsl.status_facade, parsl.submissions
    if not parsl.outstanding() or parsl.bad_state_is_set:
        return
    if any_active(statuses):
        _fail_where_nothing_is_known(parsl)
        return
    if submissions.outage is not None:
        if submissions.outlasted():
            parsl.set_bad_state_and_fail_all(SchedulerOutageError(submissions.condition()))
    elif strategy == "none" or parsl.provider.max_blocks <= 0:
        blocks = f"init_blocks: {parsl.provider.init_blocks}, max_blocks: {parsl.provider.max_blocks}"
        reason = (
            f"There are no workers, and the configuration asks for no more blocks (strategy: {strategy}, {blocks})."
        )
        parsl.set_bad_state_and_fail_all(RuntimeError("\n".join([reason, describe_ended(parsl, statuses)])))


def _fail_where_nothing_is_known(parsl: Executor) -> None:
    """Fail all tasks if nothing was heard of the jobs for too long, and no workers are there.

    Jobs whose workers haven't come may have ended long ago, where the command that would tell fails for good.
    """
    if parsl.kept_in_the_dark() and not parsl.connected_blocks():
        parsl.set_bad_state_and_fail_all(SchedulerOutageError(parsl.condition()))
