"""Parsl's poller, which asks for the jobs' states and has the strategy scale the blocks, and what else is due then."""

import threading
from typing import Any

from parsl.jobs.job_status_poller import JobStatusPoller

from twinlock_endpoint.htex.executor import Executor
from twinlock_endpoint.htex.failures import fail_where_nothing_will_run


class Poller(JobStatusPoller):  # type: ignore[misc]  # Parsl ships no types
    """Parsl's poller, which here waits for its executor.

    Parsl's polls as soon as it is made, before it has an executor; the first block would wait a period.
    """

    def __init__(self, parsl: Executor, arguments: dict[str, Any]) -> None:
        self._filled = threading.Event()
        self._strategy_name = arguments["strategy"]
        super().__init__(**arguments)
        self.add_executors([parsl])
        self._filled.set()

    def poll(self) -> None:
        """Poll as Parsl does, and do what else is due: adopt and cancel jobs, give up blocks, fail tasks."""
        self._filled.wait()
        for parsl in self._executors:
            parsl.adopt_found_jobs()
        super().poll()
        for parsl in self._executors:
            if parsl.submissions.due():
                parsl.submitted.cancel_unwanted(parsl.provider)
            managers = parsl.connected_managers()
            parsl.lost_workers.remember(managers)
            parsl.give_up_ended_blocks(managers)
            if self._strategy_name == "none" and parsl.submissions.condition():
                _make_up_for_missed_blocks(parsl)
            fail_where_nothing_will_run(parsl, self._strategy_name)


def _make_up_for_missed_blocks(parsl: Executor) -> None:
    """Ask for those of the first blocks that aren't there.

    The strategy `none` asks for them once, whatever the scheduler says then.
    """
    parsl.scale_out_facade(parsl.provider.init_blocks - len(parsl.blocks_to_job_id))
