"""A real spawner whose broker is the test, and the broker's own client at work."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import placed_rig
import pytest
import pytest_asyncio
from broker_rabbit import Rabbit, rabbit_node
from broker_rest import Service
from broker_rig import MANAGER, Told
from broker_site import Site, serving
from patience import BROKER, patient
from spawner_rig import Spawner, launch, stop
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.spawner.client import SpawnerClient


@pytest.fixture(autouse=True, scope="package")
def time_enough() -> Iterator[None]:
    """The limits of the broker's parts in this process are those of a machine that is busy."""
    with patient(BROKER):
        yield


@pytest.fixture
def policy() -> dict[str, object]:
    """What the spawner's policy has beside the rig's entries; a test may put its own in this place by `parametrize`."""
    return {"max_children_per_user": 3}


@pytest.fixture
def spawner(policy: dict[str, object]) -> Iterator[Spawner]:
    """A spawner that starts endpoints of `endpoint_user()`. Its program `gone` was there when it read its policy."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        gone = folder / "uninstalled"
        shutil.copy("/bin/true", gone)
        made = launch(folder, {"deny_users": ["root"], "system_uids": [], "programs": {"gone": [str(gone)]}} | policy)
        gone.unlink()
        try:
            yield made
        finally:
            stop(made)


@pytest.fixture
def told() -> Told:
    """What users are told."""
    return Told()


@pytest.fixture
async def client(spawner: Spawner) -> SpawnerClient:
    """A client that nobody has started yet."""
    return SpawnerClient(spawner.socket)


@pytest.fixture
async def supervisor(client: SpawnerClient, told: Told, tmp_path: Path) -> AsyncIterator[Supervisor]:
    """A supervisor that is connected."""
    made = Supervisor(
        MANAGER, 30.0, Launcher(client, {}, tmp_path / "endpoints"), Store(tmp_path / "endpoints", None), told.send
    )
    running = asyncio.create_task(client.run(made))
    await asyncio.wait_for(client.ready.wait(), 60)
    yield made
    running.cancel()
    await asyncio.wait((running,))


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A folder that every account can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def site(spawner: Spawner, told: Told, runtime: Path, tmp_path: Path) -> AsyncIterator[Site]:
    """A site without an audit."""
    async with serving(spawner, told, runtime, tmp_path) as made:
        yield made


@pytest.fixture
def killed_groups(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """For each process group that this process kills, whether its leader's number is certainly the leader's."""
    found: list[bool] = []
    killpg = os.killpg

    def note(group: int, number: int) -> None:
        found.append(Path(f"/proc/{group}").exists())  # until the leader is reaped
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", note)
    return found


@pytest.fixture
def placed() -> Iterator[placed_rig.Site]:
    """An endpoint's folder as the packages have it, registered, with a client's login."""
    with placed_rig.placed_site() as made:
        yield made


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that knows that endpoint and that login."""
    with placed_rig.asked_service() as made:
        yield made


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def node() -> AsyncIterator[Rabbit]:
    """A RabbitMQ node for all tests here that are marked `system`."""
    async with rabbit_node() as made:
        yield made


@pytest_asyncio.fixture(loop_scope="package")
async def rabbit(node: Rabbit) -> Rabbit:
    """The node as one test finds it, whatever became of those before."""
    await node.renew()
    return node
