"""Blocked accounts and drains: what isn't started, what runs on, and what outlives the broker."""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from broker_rig import MANAGER, Told, endpoint_user, numbered, request
from spawner_rig import Spawner
from twinlock_broker.endpoints import drain, registry
from twinlock_broker.endpoints.admission import Admission, Entry
from twinlock_broker.endpoints.drain import Drain
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.errors import Fatal
from twinlock_broker.spawner.client import SpawnerClient

HELP = Entry("call the help desk", "root")
KERNEL = Entry("new kernel, back on Friday", "root")


@pytest.fixture
def admission(tmp_path: Path) -> Admission:
    """Everybody is let in."""
    return Admission(tmp_path / "admission.json")


@pytest.fixture
async def supervisor(
    client: SpawnerClient, told: Told, tmp_path: Path, admission: Admission
) -> AsyncIterator[Supervisor]:
    """A supervisor that is connected, and minds the `admission`."""
    launcher = Launcher(client, {}, tmp_path / "endpoints", admission)
    made = Supervisor(MANAGER, 30.0, launcher, Store(tmp_path / "endpoints", None), told.send)
    running = asyncio.create_task(client.run(made))
    await asyncio.wait_for(client.ready.wait(), 60)
    yield made
    running.cancel()
    await asyncio.wait((running,))


class Looks:
    """Counts how often a drain has looked at an endpoint, whose tasks it knows of if that is `connected`.

    The first look meets a `fault`, if there is one.
    """

    def __init__(self, connected: bool, fault: Exception | None = None) -> None:
        self._connected = connected
        self._fault = fault
        self._count = 0

    def __call__(self, endpoint: Endpoint) -> bool:
        self._count += 1
        if self._fault is not None and self._count == 1:
            raise self._fault
        return self._connected

    async def some(self) -> None:
        """Wait for a few more."""
        enough = self._count + 5
        async with asyncio.timeout(60):
            while self._count < enough:
                await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def draining(
    supervisor: Supervisor, admission: Admission, connected: bool, fault: Exception | None = None
) -> AsyncIterator[Looks]:
    """A drain at work."""
    await admission.start_drain(KERNEL)
    looks = Looks(connected, fault)
    working = asyncio.create_task(Drain(supervisor, admission, looks).run())
    yield looks
    working.cancel()
    await asyncio.wait((working,))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain that ends what is idle when it sees it."""
    monkeypatch.setattr(drain, "QUIET", 0.0)
    monkeypatch.setattr(drain, "PERIOD", 0.05)


async def ended(supervisor: Supervisor) -> None:
    """Wait until there is no endpoint."""
    async with asyncio.timeout(60):
        while list(supervisor.endpoints):
            await asyncio.sleep(0.05)


async def started(supervisor: Supervisor, tasks: int = 0) -> Endpoint:
    """A running endpoint with so many unfinished tasks."""
    await supervisor.command(request(endpoint_user(), "sleep"))
    (endpoint,) = supervisor.endpoints
    supervisor.note_unfinished(endpoint, tasks)
    return endpoint


async def test_a_blocked_account_is_told_the_reason_until_it_is_unblocked(
    supervisor: Supervisor, admission: Admission, told: Told, spawner: Spawner
) -> None:
    await admission.block(endpoint_user(), HELP)
    await supervisor.command(request(endpoint_user(), "sleep"))
    assert f"{endpoint_user()!r} is blocked at this endpoint: call the help desk" in await told.next()
    assert list(supervisor.endpoints) == []
    assert not any(line["event"] == "spawned" for line in spawner.audit()), "the spawner wasn't even asked"
    assert await admission.unblock(endpoint_user())
    assert not await admission.unblock(endpoint_user()), "it isn't blocked any more"
    assert (await started(supervisor)).pid


async def test_a_block_is_of_one_account(supervisor: Supervisor, admission: Admission) -> None:
    await admission.block("somebody-else", HELP)
    assert (await started(supervisor)).pid


async def test_a_drain_starts_nothing_until_it_ends(supervisor: Supervisor, admission: Admission, told: Told) -> None:
    await admission.start_drain(KERNEL)
    await supervisor.command(request(endpoint_user(), "sleep"))
    assert "starts nothing at the moment: new kernel, back on Friday; submit again when" in await told.next()
    assert await admission.end_drain()
    assert not await admission.end_drain()
    assert (await started(supervisor)).pid


async def test_a_newer_command_of_a_running_endpoint_starts_no_other(
    supervisor: Supervisor, admission: Admission, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SETTLED_AFTER", 0.0)
    endpoint = await started(supervisor)
    await admission.block(endpoint_user(), HELP)
    await supervisor.command(request(endpoint_user(), "sleep"))
    assert (endpoint.state, told.notices) == (State.RUNNING, []), "its tasks go on"
    os.kill(endpoint.pid, signal.SIGTERM)
    assert "call the help desk" in await told.next()


@pytest.mark.parametrize("policy", [{"start_rate_per_user": 0.06}])  # one start at once, the next after some seconds
async def test_a_start_that_waits_for_its_turn_is_refused_when_it_comes(
    supervisor: Supervisor, admission: Admission, told: Told, spawner: Spawner
) -> None:
    await supervisor.command(numbered(1, endpoint_user()))
    waiting = asyncio.create_task(supervisor.command(request(endpoint_user(), "sleep")))
    await asyncio.to_thread(spawner.said.wait_for, "too many starts")
    await admission.block(endpoint_user(), HELP)
    await asyncio.wait_for(waiting, 60)
    assert "call the help desk" in told.notices[-1][0]


async def test_who_is_stopped_during_a_drain_isnt_asked_to_submit_again(
    supervisor: Supervisor, admission: Admission, told: Told
) -> None:
    endpoint = await started(supervisor, tasks=1)
    await admission.start_drain(KERNEL)
    await supervisor.stop(endpoint.id)
    assert "back on Friday" in await told.next()


@pytest.mark.usefixtures("impatient")
async def test_a_drain_ends_what_has_no_tasks_and_only_that(
    supervisor: Supervisor, admission: Admission, told: Told
) -> None:
    endpoint = await started(supervisor, tasks=1)
    async with draining(supervisor, admission, connected=True) as looks:
        await looks.some()
        assert (endpoint.state, told.notices) == (State.RUNNING, [])
        supervisor.note_unfinished(endpoint, 0)
        await ended(supervisor)
    assert "back on Friday" in told.notices[-1][0], "a task that came at the last moment ends with the reason"


@pytest.mark.usefixtures("impatient")
async def test_a_drain_waits_for_what_it_knows_nothing_of(supervisor: Supervisor, admission: Admission) -> None:
    endpoint = await started(supervisor)
    async with draining(supervisor, admission, connected=False) as looks:
        await looks.some()
        assert endpoint.state is State.RUNNING


@pytest.mark.usefixtures("impatient")
async def test_a_drain_goes_on_whatever_one_look_meets(
    supervisor: Supervisor, admission: Admission, caplog: pytest.LogCaptureFixture
) -> None:
    await started(supervisor)
    async with draining(supervisor, admission, connected=True, fault=OSError("a fault")):
        await ended(supervisor)
    assert "OSError: a fault" in caplog.text


async def test_a_drain_lets_unfinished_tasks_be_finished_after_a_bad_end(
    supervisor: Supervisor, admission: Admission, told: Told
) -> None:
    endpoint = await started(supervisor, tasks=1)
    await admission.start_drain(KERNEL)
    before = endpoint.pid
    os.kill(before, signal.SIGKILL)
    async with asyncio.timeout(60):
        while endpoint.pid in (0, before):
            await asyncio.sleep(0.01)
    assert told.notices == []


async def test_a_blocked_account_with_unfinished_tasks_is_told_at_once(
    supervisor: Supervisor, admission: Admission, told: Told
) -> None:
    endpoint = await started(supervisor, tasks=1)
    await admission.block(endpoint_user(), HELP)
    os.kill(endpoint.pid, signal.SIGKILL)
    assert "call the help desk" in await told.next()
    assert list(supervisor.endpoints) == []


async def test_orders_outlive_the_broker(admission: Admission, tmp_path: Path) -> None:
    await admission.block("ada", HELP)
    await admission.start_drain(KERNEL)
    (tmp_path / "admission.new").write_text('{"blocked": {"a')  # what a power cut leaves of the next order
    later = Admission(tmp_path / "admission.json")
    assert (later.blocked, later.drain) == ({"ada": HELP}, KERNEL)


async def test_orders_of_the_same_moment_are_all_kept(admission: Admission, tmp_path: Path) -> None:
    names = [f"user{number}" for number in range(20)]
    await asyncio.gather(*(admission.block(name, HELP) for name in names))
    assert sorted(Admission(tmp_path / "admission.json").blocked) == sorted(names)


async def test_an_order_that_cant_be_kept_isnt_in_force(admission: Admission, tmp_path: Path) -> None:
    await admission.block("ada", HELP)
    (tmp_path / "admission.new").mkdir()  # in the way of the draft
    with pytest.raises(OSError, match="Is a directory"):
        await admission.block("bob", HELP)
    assert set(admission.blocked) == set(Admission(tmp_path / "admission.json").blocked) == {"ada"}


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", '{"blocked": []}', '{"blocked": {"ada": {}}, "drain": null}', '{"blocked": {}, "drain": 1}', "{}"],
)
def test_a_file_that_cant_be_read_lets_nobody_in(tmp_path: Path, text: str) -> None:
    (tmp_path / "admission.json").write_text(text)
    with pytest.raises(Fatal, match=r"admission\.json: the blocked accounts can't be read: .*remove it") as refused:
        Admission(tmp_path / "admission.json")
    assert refused.value.status == os.EX_CONFIG
