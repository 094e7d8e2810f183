"""The interface between the endpoint and its engines."""

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.job_origin import JobOrigin
from twinlock_endpoint.task import Task
from twinlock_endpoint.worker import python_versions
from twinlock_endpoint.zygote.client import Zygote


@dataclass(frozen=True, slots=True)
class Place:
    """The surroundings of an engine."""

    endpoint_id: str
    """The endpoint's uuid."""
    folder: Path
    """The endpoint's folder."""
    on_failure: Callable[[Exception], None]
    """Called, from any thread, with what keeps the engine from running tasks any more."""
    origin: JobOrigin | None = None
    """What batch jobs say of where they come from; None if they say nothing."""


@dataclass(frozen=True, slots=True)
class Execution:
    """How workers execute tasks, whatever engine runs them; names and meanings are those of the configuration."""

    working_dir: Annotated[str, "where functions run; relative to the endpoint's folder"] = "tasks_working_dir"
    run_in_sandbox: Annotated[bool, "each task runs in a folder of its own in working_dir"] = False
    allowed_serializers: Annotated[Sequence[str], "import paths of the only serializers that tasks may use"] = ()

    def __post_init__(self) -> None:
        if not self.allowed_serializers:
            return
        # Only those who restrict serializers pay for the import.
        from globus_compute_sdk.errors import SerdeError
        from globus_compute_sdk.serialize import ComputeSerializer

        try:
            ComputeSerializer(allowed_deserializer_types=self.allowed_serializers)
        except SerdeError as error:
            raise ConfigError(f"The engine's 'allowed_serializers' can't be used: {error}") from None

    def call(self, task: Task, place: Place) -> tuple[tuple[str, str], dict[str, Any]]:
        """Return the positional and keyword arguments of `worker.execute_task` that come after the task's body."""
        keywords = {
            "run_dir": _run_dir(place.folder, self.working_dir),
            "run_in_sandbox": self.run_in_sandbox,
            "task_deserializers": tuple(self.allowed_serializers),
            "result_serializers": task.result_serializers,
            "users_python": python_versions.users(),
        }
        return (task.id, place.endpoint_id), keywords


@functools.cache
def _run_dir(folder: Path, working_dir: str) -> str:
    return str(folder / Path(working_dir).expanduser())


def check_retries(retries: int) -> None:
    """Raise `ConfigError` unless `max_retries_on_system_failure` can be this number."""
    if retries < 0:
        raise ConfigError(
            f"The engine has 'max_retries_on_system_failure': {retries}; it has to be a number from 0 on."
        )


class Engine(ABC):
    """The part of an endpoint that runs tasks.

    All methods but `start`, `figures` and `stop` are quick; those three may block.
    """

    max_workers: int
    """The most workers that can ever run at once; an estimate if only the nodes know."""

    encrypted = True
    """Whether its traffic between hosts is encrypted, or there is none."""

    retries = 0
    """How often a task is run again after its worker or node was lost."""

    def prepare(self, zygote: Zygote | None = None) -> None:
        """Fork what is to be forked: called once, before the process has a second thread.

        It may have one if there is a `zygote` already. An engine that needs none closes it.
        """
        if zygote is not None:
            zygote.close()

    @abstractmethod
    def start(self, place: Place) -> None:
        """Get ready for tasks. Raise whatever is in the way."""

    @abstractmethod
    def submit(self, task: Task) -> Future[bytes]:
        """Run a task. The future gets a packed result, or the exception that kept a worker from making one."""

    @abstractmethod
    def figures(self) -> dict[str, Any]:
        """Return the engine's part of a heartbeat."""

    def blocks(self) -> int:
        """Return how many blocks of workers wait or run, on this host or as batch jobs."""
        return 0

    def jobs(self) -> list[str]:
        """Return the ids of the batch jobs among these blocks."""
        return []

    @abstractmethod
    def stop(self) -> None:
        """End the workers and whatever else was started. Unfinished futures may stay unfinished."""
