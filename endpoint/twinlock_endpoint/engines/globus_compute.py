"""GlobusComputeEngine: tasks run in blocks of workers that Parsl asks a provider for."""

import asyncio
import os
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from twinlock_common.keys import nearest

from twinlock_endpoint.config.construct import construct
from twinlock_endpoint.engines.base import Engine, Place
from twinlock_endpoint.engines.containers import Container
from twinlock_endpoint.engines.options import Options
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.home import output
from twinlock_endpoint.htex import blocks, bundle, executor, failures, from_config, parsl_types
from twinlock_endpoint.htex.any_folder import InWorkingFolder, is_plain
from twinlock_endpoint.htex.poller import Poller
from twinlock_endpoint.htex.providers import forked
from twinlock_endpoint.htex.providers.marked import MarkedJobs
from twinlock_endpoint.htex.strategies import poller_arguments
from twinlock_endpoint.htex.submitted import Submitted
from twinlock_endpoint.journal import dispatched
from twinlock_endpoint.task import Task
from twinlock_endpoint.worker import main_module
from twinlock_endpoint.zygote.client import Zygote

_OPTIONS = frozenset(Options.__dataclass_fields__)
_MPI = ("enable_mpi_mode", "mpi_launcher")


class GlobusComputeEngine(Engine):
    """The engine around one executor of Parsl's and the poller that scales it."""

    executor_class: type[executor.Executor] = executor.Executor
    """The executor that `from_config` makes."""

    def __init__(self, executor: executor.Executor, options: Options) -> None:
        self._executor = executor
        self._options = options
        self._scaling = poller_arguments(options.strategy, options.job_status_kwargs)
        self._container = Container(options.container_type, options.container_uri, options.container_cmd_options)
        self._container.fits(type(executor.provider).__name__)
        self._poller: Poller | None = None
        self._zygote: Zygote | None = None
        self._submitted: Submitted | None = None
        self._failure: Exception | None = None
        """Why it didn't start. Its traceback has what Parsl made until then, with a socket of ZeroMQ that is open. If
        Python came to collect that, it would wait for the socket's end for ever, in whichever thread it does so."""
        self._place: Place
        self.encrypted = executor.encrypted
        failures.FailureRule(executor.submissions).use_in(executor)
        self.retries = options.max_retries_on_system_failure
        self.max_workers = _most_workers(executor)

    @classmethod
    def from_config(cls, arguments: dict[str, Any]) -> Self:
        """Return the engine, from its arguments in a configuration. Raise `ConfigError` with the one that is wrong."""
        own = {name: value for name, value in arguments.items() if name in _OPTIONS}
        theirs = {name: value for name, value in arguments.items() if name not in _OPTIONS}
        known = from_config.arguments_of(cls.executor_class)
        for name in theirs.keys() - known:
            if name in _MPI:
                raise ConfigError(f"{cls.__name__} has no argument {name!r}; GlobusMPIEngine is for MPI programs.")
            raise ConfigError(f"{cls.__name__} has no argument {name!r}; {nearest(str(name), _OPTIONS | known)}")
        if "provider" in theirs:
            theirs["provider"] = parsl_types.provider(theirs["provider"])
        if "address" in theirs:
            theirs["address"] = parsl_types.address(theirs["address"])
        options = construct(cls.__name__, Options, {"label": cls.__name__} | own)
        theirs = {"encrypted": True, **theirs, "label": f"{options.label}-{cls.executor_class.__bases__[-1].__name__}"}
        return cls(from_config.make(cls.executor_class, cls.__name__, theirs, options.max_scheduler_outage), options)

    def prepare(self, zygote: Zygote | None = None) -> None:
        """Fork the zygote, unless the configuration has a command of its own for the interchange."""
        if self._executor.interchange_launch_cmd == from_config.INTERCHANGE:
            self._zygote = zygote or fork_zygote()
        else:
            super().prepare(zygote)

    def start(self, place: Place) -> None:
        """Start the executor and the poller that scales it.

        Batch jobs that an endpoint before this one left are cancelled first.
        """
        self._place = place
        parsl, zygote = self._executor, self._zygote
        dispatches = dispatched.path_in(place.folder)
        if zygote is not None:
            dispatched.create(dispatches)
        if zygote is not None and self._container.type is None and forked.possible(parsl):
            launch_cmd, of_interchange = parsl.launch_cmd, None
            parsl.use_provider(forked.LocalProvider(parsl.provider, zygote, dispatches))
        else:
            launch_cmd, of_interchange = self._launch_cmd(place.folder), dispatches
        self._write_scripts_in(place.folder / "submit_scripts")
        if isinstance(parsl.provider, MarkedJobs):
            parsl.provider.origin = place.origin
        self._submitted = Submitted(place.folder / "blocks.json")
        self._submitted.cancel_former(parsl.provider)
        surroundings = executor.Surroundings(
            folder=place.folder,
            launch_cmd=launch_cmd,
            on_failure=place.on_failure,
            submitted=self._submitted,
            zygote=zygote,
            dispatched=of_interchange,
        )
        try:
            parsl.begin(surroundings)
        except Exception as error:
            self._failure = error
            raise
        self._poller = Poller(parsl, self._scaling)

    def _launch_cmd(self, folder: Path) -> str:
        """Return the command of pools that aren't forks: with this endpoint's code, and in the container, if any."""
        provider = self._executor.provider
        launcher = type(getattr(provider, "launcher", None)).__name__
        command = bundle.with_code(self._executor.launch_cmd, folder, type(provider).__name__, launcher)
        return self._container.wrap(command, folder)

    def _write_scripts_in(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        provider = self._executor.provider
        provider.script_dir = str(folder)
        if hasattr(provider, "launcher") and not is_plain(str(folder)):
            provider.launcher = InWorkingFolder(provider.launcher)

    def submit(self, task: Task) -> Future[bytes]:
        """Hand a task to the executor. Raise Parsl's exception if its resource specification isn't valid."""
        if not self._executor.takes_results:
            self._executor.take_results(asyncio.get_running_loop())
        self._executor.validate_resource_spec(task.resources)
        positional, keywords = self._options.call(task, self._place)
        # Parsl's worker imports the function by this name and calls it with the body and these arguments.
        function = {"f": "twinlock_endpoint.worker.execute_task", "a": positional, "k": keywords}
        context = {"task_executor": function, **({"resource_spec": task.resources} if task.resources else {})}
        future: Future[bytes] = self._executor.submit_payload(context, task.body)
        return future

    def figures(self) -> dict[str, Any]:
        """Return what the executor and its blocks do, and what stands in the way of more workers."""
        return {
            "engine_type": type(self).__name__,
            "condition": self._executor.condition(),
            **blocks.figures(self._executor),
        }

    def blocks(self) -> int:
        """Return how many blocks wait or run."""
        return len(blocks.current(self._executor))

    def jobs(self) -> list[str]:
        """Return the ids of their batch jobs."""
        return blocks.jobs(self._executor)

    def stop(self) -> None:
        """Cancel all blocks, and end the interchange and the zygote.

        Each step is taken, whatever becomes of those before it; then the error of one that failed is raised.
        """
        parsl = self._executor
        local = blocks.local_groups(parsl.provider)
        with ExitStack() as last_first:
            if self._zygote is not None:
                last_first.callback(self._zygote.close)
            if self._submitted is not None:
                last_first.callback(self._submitted.end, parsl.provider)
            last_first.callback(blocks.end_groups, local)
            last_first.callback(parsl.shutdown)
            last_first.callback(parsl.lost_workers.close)
            last_first.callback(blocks.cancel_rest, parsl)
            if self._poller is not None:
                last_first.callback(self._poller.close, timeout=10)


def fork_zygote() -> Zygote:
    """Return a zygote that has loaded what a worker needs."""
    from twinlock_endpoint.worker import execute

    execute.details()
    return Zygote(_forget)


def _forget() -> None:
    """Give up the endpoint's log and main module, in a process that the zygote forks."""
    output.undo()
    main_module.replace()


def _most_workers(parsl: executor.Executor) -> int:
    per_node = parsl.max_workers_per_node
    if per_node == float("inf"):
        # Only the node knows; this host's cores are the best guess.
        per_node = max(parsl.workers_per_node, os.cpu_count() or 1)
    nodes = 1 if parsl.enable_mpi_mode else parsl.provider.nodes_per_block  # an MPI block has one pool of workers
    return max(1, int(per_node * nodes * parsl.provider.max_blocks))
