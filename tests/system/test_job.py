"""The main job: two users with the official SDK, two configurations at once, idle endpoints end, nothing is left."""

from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World, eventually
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup, manager
from twinlock_testbed.processes import capabilities, endpoints, guards, idle, keepers, title
from twinlock_testbed.users import processes_of

pytestmark = pytest.mark.system

_OF_THE_BROKER = ("twinlock_common.rendering.worker", "twinlock_broker/endpoints/reader.py")
"""How the command lines end of what the broker starts."""


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose endpoints end after five to ten idle seconds."""
    return launch("job", Setup(templates.LOCAL + templates.IDLE.replace("soft: 4", "soft: 1")))


@pytest.fixture
def lasting(world: World) -> Iterator[Manager]:
    """A manager whose endpoints stay: what some have to do mustn't be the end of the others."""
    with manager(
        world.prefix, world.folder / "lasting", world.service, Setup(templates.LOCAL), world.broker_user
    ) as made:
        yield made


def test_the_job(world: World, lasting: Manager) -> None:
    endpoint = lasting
    configs = {"account_id": "physics; echo $HOME '\""}, {"account_id": "chemistry"}
    first = world.script(ADA, endpoint.endpoint_id, *configs, tasks=3)
    second = world.script(BOB, endpoint.endpoint_id, configs[1], tasks=3)
    outcomes = [*first.outcomes(RESULT_TIMEOUT), *second.outcomes(RESULT_TIMEOUT)]
    seen = {(task.person.username, task.config["account_id"], *_who(task.result)) for task in outcomes}
    uids = [world.accounts[name].pw_uid for name in ("twl-ada", "twl-bob")]
    assert {(user, account, uid, shown) for user, account, uid, shown, _ in seen} == {
        (ADA, configs[0]["account_id"], uids[0], configs[0]["account_id"]),
        (ADA, configs[1]["account_id"], uids[0], configs[1]["account_id"]),
        (BOB, configs[1]["account_id"], uids[1], configs[1]["account_id"]),
    }
    assert len({name for *_, name in seen}) == 3, "three endpoints"
    _check_processes(world, endpoint, [uids[0], uids[0], uids[1]])


def _who(result: object) -> tuple[int, str, str]:
    assert isinstance(result, dict), result
    environment = result["environment"]
    return result["uid"], result["directory"], environment["GLOBUS_COMPUTE_ENDPOINT_NAME"]


def _check_processes(world: World, endpoint: Manager, uids: list[int]) -> None:
    """Spawner root, its children the mapped users', the broker itself without a capability.

    Nobody else is root but the keeper, or without cgroups the endpoints' guards.
    """
    spawner, broker = psutil.Process(endpoint.spawner.pid), psutil.Process(endpoint.broker.pid)
    assert spawner.uids().real == 0
    assert sorted(child.uids().real for child in endpoints(spawner.pid)) == uids
    assert broker.username() == world.broker_user
    assert capabilities(broker.pid) == 0
    assert eventually(lambda: all(_helps(child, world.broker_user) for child in broker.children()), 180)
    assert psutil.Process(world.service.daemon.pid).uids().real != 0
    helpers, count = (keepers, 1) if endpoint.cgroup else (guards, len(uids))

    def only_helpers_are_root() -> bool:
        """For a moment there may be one more, which helps the spawner to close something."""
        pids = [helper.pid for helper in helpers(spawner.pid)]
        return len(pids) == count and _of_root(spawner) == pids

    assert eventually(only_helpers_are_root, 180)


def _helps(process: psutil.Process, user: str) -> bool:
    """Whether it renders templates or reads outputs, without a capability. What has just been forked soon does."""
    with suppress(psutil.NoSuchProcess, OSError):  # it has ended meanwhile
        own = (process.username(), capabilities(process.pid)) == (user, 0)
        return own and title(process).endswith(_OF_THE_BROKER)
    return False


def _of_root(spawner: psutil.Process) -> list[int]:
    """The processes of root below the spawner."""
    found = []
    for child in spawner.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found += [child.pid] * (child.uids().real == 0)
    return found


def test_the_same_configuration_uses_the_same_endpoint(world: World, endpoint: Manager) -> None:
    config = {"account_id": "same"}
    names = {_who(task.result)[2] for _ in range(2) for task in world.run(BOB, endpoint, config)}
    assert len(names) == 1


def test_idle_endpoints_end_and_leave_nothing(world: World, endpoint: Manager) -> None:
    assert world.run(ADA, endpoint, {"account_id": "idle"})[0].error is None
    uids = [account.pw_uid for account in world.accounts.values()]
    assert eventually(lambda: idle(endpoint.spawner.pid) and not any(processes_of(uid) for uid in uids), 180)


def test_an_endpoint_that_ended_starts_again(world: World, endpoint: Manager) -> None:
    config = {"account_id": "again"}
    first = world.run(ADA, endpoint, config)[0].result
    assert eventually(lambda: idle(endpoint.spawner.pid), 180)
    second = world.run(ADA, endpoint, config)[0].result
    assert first is not None
    assert second is not None
    assert first["environment"] == second["environment"]
    assert first["pid"] != second["pid"]
