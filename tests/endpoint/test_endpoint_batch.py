"""Endpoints on batch systems that can't be had here: their commands are stand-ins, which record what was asked and run
the jobs on this host."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint_rig import NOBODY, Queues, Running, until, value

pytestmark = pytest.mark.system

STANDIN = Path(__file__).parents[1] / "rigs" / "batch_standin.py"
COMMANDS = ("qsub", "qstat", "qdel", "bsub", "bjobs", "bkill", "condor_submit", "condor_q", "condor_rm")
TEMPLATE = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  address: 127.0.0.1
  job_status_kwargs: {{max_idletime: 0, strategy_period: 1}}
  provider: {{type: {provider}, init_blocks: 1, max_blocks: 1, {options}}}
"""
PBS = TEMPLATE.format(
    provider="PBSProProvider", options='account: phys, queue: debug, cpus_per_node: 2, walltime: "00:20:00"'
)
LSF = TEMPLATE.format(
    provider="LSFProvider", options='project: phys, queue: batch, walltime: "00:20:00", bsub_redirection: true'
)
CONDOR = TEMPLATE.format(provider="CondorProvider", options="project: phys, cores_per_slot: 2")
TORQUE = TEMPLATE.format(
    provider="TorqueProvider",
    options='account: phys, queue: debug, walltime: "00:20:00", launcher: {type: SingleNodeLauncher}',
)
GRID_ENGINE = TEMPLATE.format(provider="GridEngineProvider", options='queue: all.q, walltime: "00:20:00"')
ASKED = {
    PBS: ["qsub ", "-A phys ", "-q debug ", "#PBS -l walltime=00:20:00", "select=1:ncpus=2"],
    LSF: ["bsub ", "#BSUB -W 20\n", "#BSUB -P phys", "#BSUB -q batch"],
    TORQUE: ["qsub -q debug -A phys ", "#PBS -l walltime=00:20:00", "#PBS -l nodes=1:ppn=1"],
    GRID_ENGINE: ["qsub -q all.q -terse ", "#$ -l h_rt=00:20:00"],
    CONDOR: ["condor_submit ", "RequestCpus = 2"],
}
schedulers = pytest.mark.parametrize(
    "template", [PBS, TORQUE, GRID_ENGINE, LSF, CONDOR], ids=["PBS Pro", "Torque", "Grid Engine", "LSF", "HTCondor"]
)


@pytest.fixture
def batch() -> Iterator[Path]:
    """The stand-ins' folder: their commands in bin, what they did in state."""
    folder = Path(tempfile.mkdtemp(prefix="endpoint-batch-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "bin").mkdir()
    for name in COMMANDS:
        shutil.copy(STANDIN, folder / "bin" / name)
    (folder / "state").mkdir()
    shutil.chown(folder / "state", NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


def environment(batch: Path) -> dict[str, str]:
    """What leads an endpoint to the stand-ins."""
    return {"PATH": f"{batch / 'bin'}:/usr/local/bin:/usr/bin:/bin", "STANDIN": str(batch / "state")}


def double(number: int) -> int:
    return number * 2


@schedulers
def test_tasks_run_in_the_jobs_that_the_template_asks_for(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    running = endpoint(template, environment=environment(batch))
    assert value(queues.result(queues.submit(double, 4), 60)) == 8
    asked = (batch / "state" / "1.job").read_text()
    assert [words for words in ASKED[template] if words not in asked] == []
    job = Path("/proc") / (batch / "state" / "1.pid").read_text()
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    until(lambda: not job.exists())


def package() -> str:
    import twinlock_endpoint

    return twinlock_endpoint.__path__[0]


@pytest.mark.peer
def test_the_code_that_workers_need_comes_along_where_they_dont_see_the_users_home(
    endpoint: Callable[..., Running], queues: Queues, home: Path, batch: Path, peer: Path
) -> None:
    """HTCondor's hosts needn't; here they do, but nothing of the endpoint's folder is on the worker's path."""
    template = CONDOR.replace("project: phys", f"worker_init: 'export PATH={peer}:$PATH'")
    endpoint(template, environment=environment(batch))
    found = Path(value(queues.result(queues.submit(package), 60)))
    assert found.parents[1] == home
    assert not found.is_relative_to(home / ".globus_compute")


@schedulers
def test_a_refusal_is_told_in_the_schedulers_words(
    endpoint: Callable[..., Running], queues: Queues, batch: Path, template: str
) -> None:
    (batch / "state" / "refuse").write_text("no allocation for account phys")
    running = endpoint(template, environment=environment(batch))
    assert "no allocation for account phys" in queues.result(queues.submit(double, 4), 60).data
    assert running.end().code == 69
