"""Executors from an engine's arguments in a configuration."""

import inspect
import sys
from typing import Any

from twinlock_endpoint.config.construct import construct
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.htex.addresses import LOOPBACK, local_addresses, require_own
from twinlock_endpoint.htex.executor import Executor
from twinlock_endpoint.htex.lost_workers import LostWorkers
from twinlock_endpoint.htex.providers.local import LocalProvider
from twinlock_endpoint.htex.submissions import Submissions

# Not "interchange.py" from PATH: a batch site may have another Parsl there. -P keeps the user's folder off sys.path.
INTERCHANGE = [sys.executable, "-P", "-m", "parsl.executors.high_throughput.interchange"]

_POLL_MS = 100  # how often Parsl's processes look up when nothing happens; what happens wakes them at once


def make(kind: type[Executor], what: str, arguments: dict[str, Any], max_outage_s: float) -> Executor:
    """Return an executor of the engine `what` from its arguments in the configuration.

    Its `provider` and `address` are built already. Tasks wait for `max_outage_s` seconds at most while the scheduler
    takes no jobs.

    Without an address Parsl would look for one with a web service. Local workers need the loopback only; all others
    are told every address of this host, and the interchange listens on all of them.
    """
    arguments = dict(arguments)
    arguments.setdefault("provider", LocalProvider())
    arguments.setdefault("poll_period", _POLL_MS)
    anywhere = "address" not in arguments and not isinstance(arguments["provider"], LocalProvider)
    require_own(arguments.setdefault("address", LOOPBACK))
    executor = construct(what, kind, arguments)
    if executor.workers_per_node < 1:
        raise ConfigError(
            f"{what}: no worker fits on a node; look at max_workers_per_node, at cores_per_worker and mem_per_worker, "
            "and at what the provider says that a node has (cores_per_node, mem_per_node)."
        )
    if "interchange_launch_cmd" not in arguments:  # an argument of another type in each of Parsl's two classes
        executor.interchange_launch_cmd = INTERCHANGE
    executor.submissions = Submissions(max_outage_s)
    executor.lost_workers = LostWorkers(executor)
    # Workers may bring a Python of their own (worker_init); Parsl would end the whole executor over that.
    executor._check_python_mismatch = False  # noqa: SLF001 - no argument for it; in compat/executor.py
    if anywhere:
        executor.address, executor.all_addresses = None, local_addresses()
    return executor


def arguments_of(kind: type[Executor]) -> frozenset[str]:
    """Return the names of the arguments that Parsl's class takes."""
    return frozenset(inspect.signature(kind).parameters)
