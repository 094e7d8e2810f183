"""The job on a real Slurm, with the template that sites have: tasks run in batch jobs of the mapped users."""

from collections.abc import Iterator

import pytest
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World, eventually
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup
from twinlock_testbed.processes import idle
from twinlock_testbed.slurm import Slurm, private_slurm

pytestmark = [pytest.mark.system, pytest.mark.slurm, pytest.mark.thorough]


@pytest.fixture(scope="module")
def slurm(world: World) -> Iterator[Slurm]:
    """A private cluster."""
    with private_slurm(world.folder / "cluster") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def endpoint(launch: Launch, slurm: Slurm) -> Manager:
    """A manager with the issue's template as it is, and the two lines that end idle endpoints."""
    idle = '{% include "job.yaml.j2" %}\n' + templates.IDLE
    return launch("slurm", Setup(idle, {"job.yaml.j2": templates.SLURM}, environment=slurm.environment()))


def test_tasks_run_in_the_users_batch_jobs(world: World, endpoint: Manager, slurm: Slurm) -> None:
    first = world.script(
        ADA, endpoint.endpoint_id, {"account_id": "one"}, {"account_id": "two", "walltime": "00:05:00"}
    )
    second = world.script(BOB, endpoint.endpoint_id, {"account_id": "three"})
    results = [outcome.result for script in (first, second) for outcome in script.outcomes(RESULT_TIMEOUT)]
    seen = {(result["uid"], result["environment"]["SLURM_JOB_ACCOUNT"]) for result in results if result}
    ada, bob = (world.accounts[name].pw_uid for name in ("twl-ada", "twl-bob"))
    assert seen == {(ada, "one"), (ada, "two"), (bob, "three")}
    assert len({result["environment"]["SLURM_JOB_ID"] for result in results if result}) == 3

    assert eventually(lambda: idle(endpoint.spawner.pid), 180)
    assert eventually(lambda: slurm.jobs() == [], 180)


def test_a_walltime_that_slurm_refuses_is_told(world: World, endpoint: Manager) -> None:
    (outcome,) = world.run(ADA, endpoint, {"account_id": "one", "walltime": "99:00:00"})
    assert outcome.result is None
    assert "limit" in (outcome.error or "").lower(), outcome.error
