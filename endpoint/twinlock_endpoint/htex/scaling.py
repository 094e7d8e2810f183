"""The part of the executor that gets blocks from a scheduler and gives them back, whatever the scheduler does."""

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any

from parsl.executors.errors import ScalingFailed
from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.jobs.states import JobState, JobStatus

from twinlock_endpoint.htex.block_log import BlockLog
from twinlock_endpoint.htex.idle_blocks import idlest
from twinlock_endpoint.htex.jobs import describe, with_details
from twinlock_endpoint.htex.messages import RETIRE_BLOCK
from twinlock_endpoint.htex.providers.scheduler import LastWords, is_unreachable
from twinlock_endpoint.htex.submissions import Outage, Submissions
from twinlock_endpoint.htex.submitted import Submitted

log = logging.getLogger(__name__)

_FIRST_LOOK_S = 5.0
_BETWEEN_SEARCHES_S = 5.0
_REMEMBERED_REFUSALS = 5
_SHOWN_REASONS = 3


class ScalingExecutor(HighThroughputExecutor):  # type: ignore[misc]  # Parsl ships no types
    """Parsl's executor, with other reactions to what a batch scheduler says."""

    submitted: Submitted
    """The batch jobs of this endpoint and of those before it."""
    submissions: Submissions
    """The attempts to submit blocks."""
    command_client: Any
    """Parsl's own: the line for questions to the interchange."""
    _last_poll_time: float

    def start(self) -> None:
        """Start as Parsl does, and keep what the scheduler's commands print."""
        self._asking = threading.Lock()
        self._block_log = BlockLog()
        self._doubtful_blocks: dict[str, str] = {}  # by the name of the job
        self._search_due = float("-inf")
        self._scheduler = LastWords(self.provider.script_dir)
        self._scheduler.listen()
        super().start()

    def status(self) -> dict[str, JobStatus]:
        """Return the state of each block's job, of which no two threads may ask at once."""
        with self._asking:
            statuses = super(HighThroughputExecutor, self).status()
            self._block_log.end(self, statuses)
        connected = set(self.connected_blocks())
        return {block: _seen_by_parsl(status, block in connected) for block, status in statuses.items()}

    def condition(self) -> str:
        """Return what stands in the way of more workers, in words for the user; empty while nothing does."""
        statuses = self._status.copy()  # in one go, since the poller's thread adds and removes blocks meanwhile
        waiting = [block for block, status in statuses.items() if status.state == JobState.PENDING]
        reasons = [describe(self, block, statuses[block]) for block in waiting if statuses[block].message]
        return " ".join(filter(None, [self.submissions.condition(), self._silence(), *reasons[:_SHOWN_REASONS]]))

    def kept_in_the_dark(self) -> bool:
        """Return whether the scheduler's command has failed for too long.

        It doesn't count if the scheduler is away for a time.
        """
        silence = self._silent()
        if silence is None or is_unreachable(silence.words):
            return False
        return time.monotonic() > silence.since + self.submissions.max_outage_s

    def _silent(self) -> Outage | None:
        """Return since when the scheduler's command fails; None while it doesn't.

        No scheduler is asked about blocks on this host.
        """
        return getattr(self.provider, "silence", None)

    def _silence(self) -> str:
        silence = self._silent()
        if silence is None:
            return ""
        minutes = (time.monotonic() - silence.since) / 60
        return f"The scheduler hasn't said for {minutes:.0f} minutes what became of the batch jobs: {silence.brief()}."

    def scale_out_facade(self, n: int) -> list[str]:
        """Get as many of `n` blocks as the scheduler takes; one that it refuses puts off all further ones."""
        launched: list[str] = []
        for _ in range(n):
            if not self.submissions.due():
                break
            launched += super().scale_out_facade(1)
            self._forget_failures()
        return launched

    def scale_in(self, blocks: int, max_idletime: float | None = None) -> list[str]:
        """End up to `blocks` blocks that have no task and were idle for more than `max_idletime` seconds; return them.

        Parsl ends a block that was idle when it looked, also if a task has reached it since. Here the interchange sends
        nothing more to a block as soon as it has said that the block has no task.
        """
        idle = idlest(self._status, self.connected_managers(), max_idletime)
        jobs: dict[str, Any] = {}
        for block in idle:
            if len(jobs) < blocks and block in self.blocks_to_job_id and self._retire(block):
                jobs[block] = self.blocks_to_job_id[block]
        if jobs:
            cancelled = self.provider.cancel(list(jobs.values()))
            self._filter_scale_in_ids(list(jobs.values()), cancelled)
        return list(jobs)

    def _retire(self, block: str) -> bool:
        """Return whether the block has no task and gets none any more."""
        retired: bool | None = self.command_client.run([RETIRE_BLOCK, block])
        if retired is None:  # an interchange of the configuration's own, which knows Parsl's commands only
            self._hold_block(block)
            return True
        return retired

    def _filter_scale_in_ids(self, to_kill: Sequence[Any], killed: Sequence[bool]) -> list[Any]:
        """Count a job that couldn't be cancelled as cancelled all the same; it is seen to later.

        Its workers get nothing by now: it would be a running block that takes no task.
        """
        self.submitted.unwant(job for job, gone in zip(to_kill, killed, strict=True) if not gone)
        return list(to_kill)

    def give_up_ended_blocks(self, managers: list[dict[str, Any]]) -> None:
        """Put on hold those of these connected worker pools whose job has ended; our interchange drops them soon."""
        ended = {block for block, status in self._status.items() if status.terminal}
        for block in {manager["block_id"] for manager in managers if manager["active"]} & ended:
            log.warning("The job of block %s has ended under its worker pools", block)
            self._hold_block(block)

    def _forget_failures(self) -> None:
        """Forget failed blocks, but for the last few that were refused.

        An attempt that didn't reach the scheduler is no failed block.
        """
        failed = [block for block, status in self._simulated_status.items() if status.state == JobState.FAILED]
        forgotten = failed[:-_REMEMBERED_REFUSALS] if self.submissions.outage is None else failed
        for block in forgotten:
            del self._simulated_status[block]
            self._status.pop(block, None)

    def _launch_block(self, block_id: str) -> Any:
        """Submit a block's job. The error has the scheduler's own words, should it refuse the job."""
        self._scheduler.text = ""
        try:
            job_id = super()._launch_block(block_id)
        except Exception as error:
            said = self._scheduler.text
            job_id = None if is_unreachable(said) else self._taken_all_the_same()
            if job_id is None:
                raise self._not_launched(block_id, error, said) from error
        self._launched(job_id)
        self._block_log.begin(self.provider, block_id, job_id)
        return job_id

    def _taken_all_the_same(self) -> str | None:
        """Return the id of the job just submitted, if it was taken though its command seemed to fail.

        The command may fail for another reason, or print no id that we can read. That happens with wrappers of sites,
        with other languages, and with options that the configuration passes on.
        """
        name = self.submitted.intended
        job_id: str | None = (self.provider.find([name]) or {}).get(name) if name else None
        if job_id is not None:
            log.info("The scheduler took job %s, though its command didn't say so", job_id)
            self.provider.adopt(job_id, name)
        return job_id

    def _launched(self, job_id: Any) -> None:
        self.submissions.accepted()
        self._look_soon()
        ended = {block for block, status in self._status.items() if status.terminal}
        self.submitted.note(self.provider, job_id, {str(self.blocks_to_job_id.get(block)) for block in ended})

    def adopt_found_jobs(self) -> None:
        """Make blocks of jobs that the scheduler took though their submission seemed to fail; their workers come."""
        doubtful = self.submitted.doubtful()
        if doubtful and time.monotonic() >= self._search_due:
            self._search_due = time.monotonic() + _BETWEEN_SEARCHES_S
            found = self.provider.find(doubtful)
            if found is not None:
                for name, job_id in found.items():
                    self._adopt(job_id, name)
                self.submitted.not_found()

    def _adopt(self, job_id: str, name: str) -> None:
        block_id = self._doubtful_blocks.pop(name)
        log.info("Block %s was submitted after all, as job %s", block_id, job_id)
        self._block_log.begin(self.provider, block_id, job_id)
        self.provider.adopt(job_id, name)
        self.blocks_to_job_id[block_id], self.job_ids_to_block[job_id] = job_id, block_id
        self._status[block_id] = JobStatus(JobState.PENDING)
        self.submitted.found(name)
        self._launched(job_id)

    def _look_soon(self) -> None:
        """Have Parsl ask for the jobs' states in some seconds; it would after a minute.

        Many a job fails at once, or waits for a reason that its user should know.
        """
        soon = time.time() - self.status_polling_interval + _FIRST_LOOK_S
        self._last_poll_time = min(self._last_poll_time, soon)

    def _not_launched(self, block_id: str, error: Exception, said: str) -> Exception:
        """Note why a block's job wasn't taken, and return the error that says so.

        A command that succeeded without an id has taken the job, most likely; the scheduler may know it soon.
        """
        doubtful = is_unreachable(said) or (not said and bool(self.submitted.intended))
        if doubtful and self.submitted.intended:
            self._doubtful_blocks[self.submitted.intended] = block_id
        self.submitted.miss(doubtful=doubtful)
        said = said or str(error)
        if doubtful:
            log.warning("The scheduler can't be reached: %s", said)
            self.submissions.miss(said)
        else:
            log.warning("The scheduler refused a job: %s", said)
            self.submissions.refuse(said)
        return error if said in str(error) else ScalingFailed(self, f"{error}; {said}")


def _seen_by_parsl(status: JobStatus, connected: bool) -> JobStatus:
    """Return the state as Parsl's strategy and error handlers expect it.

    A held or suspended job is one that waits: Parsl would ask for another in its place, each time that it looks. One
    that ended before its workers came is MISSING.
    """
    if status.state == JobState.HELD:
        return _changed(status, JobState.PENDING, f"held or suspended{_because(status)}")
    if status.terminal and not connected and status.state not in (JobState.SCALED_IN, JobState.MISSING):
        return _changed(status, JobState.MISSING, f"ended before its workers connected: {with_details(status)}")
    return status


def _because(status: JobStatus) -> str:
    return f" ({status.message})" if status.message else ""


def _changed(status: JobStatus, state: JobState, message: str) -> JobStatus:
    return JobStatus(state, message, status.exit_code, status.stdout_path, status.stderr_path)
