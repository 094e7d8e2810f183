"""Homes whose paths have characters that shells, Parsl's templates or schedulers see something special in."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from batch_rig import GRID_ENGINE, LSF, PBS, TORQUE, environment
from endpoint_rig import NOBODY, Queues, Running, value
from slurm_rig import leave, until
from twinlock_testbed.slurm import Slurm

pytestmark = pytest.mark.system

NAMES = ["Ada Lovelace", 'it\'s "100%j" of $HOME; {0} #1 & (\u00e4\u4e16) `date` {cert_dir} %% \\n*']
THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
PROCESSES = "engine: {type: ProcessPoolEngine, max_workers: 1}\n"
FORKED = "engine: {type: GlobusComputeEngine, max_workers_per_node: 1}\n"
SHELL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1, worker_init: "export MINE=set"}
"""
AROUND = "env HERE={EXECUTOR_RUNDIR} {EXECUTOR_LAUNCH_CMD}"
CONTAINER = f"{SHELL}  container_type: custom\n  container_cmd_options: {AROUND}\n"
LOCAL = {"threads": THREADS, "processes": PROCESSES, "forked": FORKED, "shell": SHELL, "container": CONTAINER}
BATCH = {"PBS Pro": PBS, "Torque": TORQUE, "Grid Engine": GRID_ENGINE, "LSF": LSF}
SLURM = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider:
    type: SlurmProvider
    launcher: {{type: {launcher}}}
    walltime: "00:10:00"
    exclusive: false
    cmd_timeout: 60
"""

SHORT = {"TMPDIR": "/tmp"}  # else it is the home, which is too long for the sockets of Parsl's pool


@pytest.fixture(params=NAMES, ids=["space", "others"])
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A home with such a name, of `nobody`."""
    above = Path(tempfile.mkdtemp(prefix="endpoint-odd-", dir="/tmp"))
    above.chmod(0o755)
    folder = above / request.param
    folder.mkdir()
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(above, ignore_errors=True)


def place() -> str:
    import os

    return os.getcwd()


def print_place() -> str:
    import os

    print("said by the task", flush=True)
    return os.getcwd()


@pytest.mark.cases(2)
@pytest.mark.parametrize("engine", LOCAL)
def test_engines_on_this_host(endpoint: Callable[..., Running], queues: Queues, engine: str) -> None:
    running = endpoint(LOCAL[engine], environment=SHORT)
    assert value(queues.result(queues.submit(place))) == str(running.folder / "tasks_working_dir")
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])


@pytest.mark.thorough
@pytest.mark.parametrize("scheduler", BATCH)
def test_batch_systems(endpoint: Callable[..., Running], queues: Queues, batch: Path, scheduler: str) -> None:
    running = endpoint(BATCH[scheduler], environment=SHORT | environment(batch))
    assert value(queues.result(queues.submit(place))) == str(running.folder / "tasks_working_dir")
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])


@pytest.mark.thorough
@pytest.mark.slurm
@pytest.mark.parametrize("launcher", ["SrunLauncher", "SingleNodeLauncher", "SimpleLauncher"])
def test_slurm(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm, launcher: str) -> None:
    running = endpoint(SLURM.format(launcher=launcher), environment=SHORT | slurm.environment())
    assert value(queues.result(queues.submit(print_place))) == str(running.folder / "tasks_working_dir")
    scripts = running.folder / "submit_scripts"
    until(lambda: "said by the task" in "".join(path.read_text() for path in scripts.glob("*.stdout")))
    leave(running, slurm)
