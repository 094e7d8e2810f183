"""An endpoint that ends with unfinished tasks in its journal is started again, whoever dies besides."""

import asyncio
import os
import signal
from pathlib import Path

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, request
from spawner_rig import Spawner
from twinlock_broker.endpoints import registry
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.spawner.client import SpawnerClient


class Broker:
    """The part of a broker that keeps endpoints, with its state in `folder`."""

    def __init__(self, spawner: Spawner, folder: Path, told: Told) -> None:
        self.client = SpawnerClient(spawner.socket)
        store = Store(folder, None)
        self.supervisor = Supervisor(MANAGER, 30.0, Launcher(self.client, {}, folder), store, told.send)
        self._running = asyncio.create_task(self.client.run(self.supervisor))

    async def ready(self) -> None:
        """Wait for the spawner's table."""
        await asyncio.wait_for(self.client.ready.wait(), 60)

    async def start(self, tasks: int) -> Endpoint:
        """An endpoint that has said that so many tasks are unfinished."""
        await self.supervisor.command(request(endpoint_user(), "sleep"))
        (endpoint,) = self.supervisor.endpoints
        self.supervisor.note_unfinished(endpoint, tasks)
        return endpoint

    async def end(self) -> None:
        """Have it do nothing more."""
        self._running.cancel()
        await asyncio.wait((self._running,))


async def another(endpoint: Endpoint, pid: int) -> int:
    """The process of the next life."""
    async with asyncio.timeout(60):
        while endpoint.pid in (0, pid):
            await asyncio.sleep(0.01)
    return endpoint.pid


async def test_who_has_unfinished_tasks_is_started_again_after_growing_delays(
    spawner: Spawner, told: Told, tmp_path: Path
) -> None:
    broker = Broker(spawner, tmp_path / "s", told)
    await broker.ready()
    endpoint = await broker.start(2)
    for crashes in (1, 2):
        pid = endpoint.pid
        os.kill(pid, signal.SIGKILL)
        await another(endpoint, pid)
        assert (endpoint.crashes, endpoint.restarted) == (crashes, True)
    broker.supervisor.note_unfinished(endpoint, 0)
    assert endpoint.crashes == 0, "it has settled"
    os.kill(endpoint.pid, signal.SIGKILL)
    assert "killed by signal 9" in await told.next(), "nothing is unfinished, so it isn't started again"
    assert len(told.notices) == 1
    await broker.end()


async def test_a_revival_that_never_succeeds_ends_in_a_notice(
    spawner: Spawner, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "MAX_REVIVALS", 2)
    broker = Broker(spawner, tmp_path / "s", told)
    await broker.ready()
    endpoint = await broker.start(2)
    endpoint.request = request(endpoint_user(), "gone")
    os.kill(endpoint.pid, signal.SIGKILL)
    assert "endpoint program is missing" in await told.next()
    assert list(broker.supervisor.endpoints) == []
    assert sum(line["event"] == "refused" for line in spawner.audit()) == 2, "it was tried again"
    await broker.end()


async def test_the_debt_outlives_the_broker_and_the_host(spawner: Spawner, told: Told, tmp_path: Path) -> None:
    store = Store(tmp_path / "s", None)
    list(store.load())
    gone = Endpoint(UEP, endpoint_user(), request=request(endpoint_user(), "sleep"), has_unfinished_tasks=True)
    gone.state = State.RUNNING  # and no process of it is there: its host was started anew
    store.save(gone)
    broker = Broker(spawner, tmp_path / "s", told)
    await broker.ready()
    (endpoint,) = broker.supervisor.endpoints
    await another(endpoint, 0)
    assert (endpoint.state, told.notices) == (State.RUNNING, [])
    await broker.end()
