"""The keys of GlobusComputeEngine and GlobusMPIEngine that are not arguments of Parsl's executor."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

from twinlock_endpoint.engines.base import Execution, check_retries
from twinlock_endpoint.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Options(Execution):
    """The keys, each with its type, its meaning and the agent's default."""

    label: Annotated[str, "name of the engine's log folder and of its batch jobs"] = "GlobusComputeEngine"
    max_retries_on_system_failure: Annotated[int, "how often a task whose worker or node was lost runs again"] = 0
    strategy: Annotated[
        str | dict[str, Any] | None, "how blocks are scaled: simple (the default), htex_auto_scale or none"
    ] = None
    job_status_kwargs: Annotated[
        dict[str, Any],
        "more of the scaling: strategy; max_idletime (120 s), after which an idle block ends; strategy_period (5 s)",
    ] = field(default_factory=dict)
    max_scheduler_outage: Annotated[
        float,
        "seconds for which tasks wait while the scheduler can't be reached, or its command for jobs' states fails and "
        "no worker is there; then they get an error",
    ] = 900.0
    container_type: Annotated[
        str | None, "workers run in a container: docker, podman, podman-hpc, apptainer, singularity or custom"
    ] = None
    container_uri: Annotated[str | None, "the container's image"] = None
    container_cmd_options: Annotated[str, "options of the container's command; for custom the command itself"] = ""

    def __post_init__(self) -> None:
        Execution.__post_init__(self)
        check_retries(self.max_retries_on_system_failure)
        if not 0 <= self.max_scheduler_outage < math.inf:
            raise ConfigError("The engine's 'max_scheduler_outage' has to be a number of seconds, 0 or more.")
