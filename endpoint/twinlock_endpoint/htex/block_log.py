"""What the endpoint's log says of blocks: which job each of them is, and how that ended."""

import logging

from parsl.executors.high_throughput.executor import HighThroughputExecutor
from parsl.jobs.states import JobStatus
from parsl.providers import LocalProvider
from parsl.providers.base import ExecutionProvider

from twinlock_endpoint.htex.jobs import describe

log = logging.getLogger(__name__)


class BlockLog:
    """The lines about the blocks of one executor."""

    def __init__(self) -> None:
        self._ended: set[str] = set()  # blocks whose jobs had ended when the scheduler was asked last

    def begin(self, provider: ExecutionProvider, block: str, job: object) -> None:
        """Log that a block was submitted."""
        kind = "process" if isinstance(provider, LocalProvider) else "batch job"
        log.info("Block %s is the %s %s", block, kind, job)

    def end(self, parsl: HighThroughputExecutor, statuses: dict[str, JobStatus]) -> None:
        """Log which batch jobs have ended since it was called last, and how."""
        ended = {block for block, status in statuses.items() if status.terminal and block in parsl.blocks_to_job_id}
        if not isinstance(parsl.provider, LocalProvider):
            for block in sorted(ended - self._ended):
                log.info("Block %s: %s", block, describe(parsl, block, statuses[block]).partition("\n")[0])
        self._ended = ended
