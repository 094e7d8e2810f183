"""GlobusMPIEngine: tasks that are MPI programs, each on as many nodes of a block as its resource specification says."""

from twinlock_endpoint.engines.globus_compute import GlobusComputeEngine
from twinlock_endpoint.htex import executor


class GlobusMPIEngine(GlobusComputeEngine):
    """The engine around Parsl's MPIExecutor, whose tasks find in PARSL_MPI_PREFIX how to start their program."""

    executor_class = executor.MPIExecutor
