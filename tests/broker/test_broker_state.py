"""What a broker knows that follows one which was killed at any moment."""

import asyncio
import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broker_rig import ALICE, MANAGER, UEP, Told, amqp_creds, endpoint_user, request
from spawner_rig import Spawner
from twinlock_broker.endpoints import registry
from twinlock_broker.endpoints.disk import Disk
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.registry import State
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.identity.mapping import Match
from twinlock_broker.spawner.client import SpawnerClient


class Broker:
    """The part of a broker that keeps endpoints, until it is killed."""

    def __init__(self, spawner: Spawner, state: Path, told: Told) -> None:
        self.client = SpawnerClient(spawner.socket)
        self.supervisor = Supervisor(MANAGER, 30.0, Launcher(self.client, {}, state), Store(state, None), told.send)
        self._running = asyncio.create_task(self.client.run(self.supervisor))

    async def ready(self) -> None:
        """Wait for the spawner's table."""
        await asyncio.wait_for(self.client.ready.wait(), 60)

    async def kill(self) -> None:
        """Have it do nothing more: no exit is noted, nothing is written."""
        self._running.cancel()
        await asyncio.wait((self._running,))
        for endpoint in self.supervisor.endpoints:
            if endpoint.timer is not None:
                endpoint.timer.cancel()


def kept(folder: Path, **values: object) -> None:
    """A record as a broker leaves it that is killed."""
    endpoint = Endpoint(UEP, endpoint_user(), request=request(endpoint_user(), "sleep"))
    for name, value in values.items():
        setattr(endpoint, name, value)
    store = Store(folder, None)
    list(store.load())
    store.save(endpoint)


def record_of_0_1() -> dict[str, Any]:
    """What version 0.1 of the broker wrote about an endpoint that had failed three times, and a newer command."""
    now = time.time()
    return {
        "id": UEP,
        "user": "ada",
        "waiting": True,
        "crashes": 0,
        "deaths": 3,
        "restarted": False,
        "owes": True,
        "command": "0badcafe",
        "state": "RESTING",
        "arrived": now - 20,
        "started": now - 30,
        "again": now + 4,
        "request": {
            "name": f"uep.{MANAGER}.{UEP}",
            "user": "ada",
            "program": "endpoint",
            "command": "0badcafe",
            "amqp": amqp_creds(),
            "config": "engine: {type: ThreadPoolEngine}",
            "match": {"user": "ada", "identity": ALICE, "candidates": []},
            "allowed_functions": None,
            "environment": {"A": "b"},
        },
    }


def spawned(spawner: Spawner) -> int:
    """How often something was started, at least once."""
    spawner.said.wait_for('"event": "spawned"')
    return sum('"event": "spawned"' in line for line in spawner.said.last(1000))


def test_a_disk_that_hangs_doesnt_hold_up_the_brokers_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "hangs")  # opening it waits for a writer
    code = (
        "import pathlib, sys; from twinlock_broker.endpoints.disk import Disk\n"
        "Disk().sync_soon(pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "hangs"], check=True, timeout=60)


async def test_files_are_synced_whatever_became_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, fsync = set[str](), os.fsync

    def note(opened: int) -> None:
        synced.add(os.readlink(f"/proc/self/fd/{opened}"))
        fsync(opened)

    monkeypatch.setattr(os, "fsync", note)
    (tmp_path / "there").write_text("")
    disk = Disk()
    disk.sync_soon(tmp_path / "gone")
    disk.sync_soon(tmp_path / "there")
    async with asyncio.timeout(60):
        while not {str(tmp_path / "there"), str(tmp_path)} <= synced:
            await asyncio.sleep(0.01)


async def test_a_command_that_waits_for_an_end_outlives_the_broker(
    spawner: Spawner, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SETTLED_AFTER", 0.0)
    first = Broker(spawner, tmp_path / "s", told)
    await first.ready()
    await first.supervisor.command(request(endpoint_user(), "sleep"))
    await first.supervisor.command(request(endpoint_user(), "gone"))
    await first.kill()
    second = Broker(spawner, tmp_path / "s", told)
    await second.ready()
    await second.client.signal(UEP, "TERM")
    assert "endpoint program is missing" in await told.next(), "started with the command that the first one had taken"
    await second.kill()


async def test_an_end_without_a_broker_is_told_by_the_next_one(spawner: Spawner, told: Told, tmp_path: Path) -> None:
    first = Broker(spawner, tmp_path / "s", told)
    await first.ready()
    await first.supervisor.command(request(endpoint_user(), "sleep"))
    pid = next(iter(first.supervisor.endpoints)).pid
    await first.kill()
    said = spawner.said.count()
    os.kill(pid, 9)
    await asyncio.to_thread(spawner.said.wait_for, '"exited"', after=said)
    second = Broker(spawner, tmp_path / "s", told)
    await second.ready()
    assert "killed by signal 9" in await told.next()
    assert spawned(spawner) == 1, "nothing is left to do for it"
    await second.kill()


@pytest.mark.parametrize("state", [State.STARTING, State.RESTART_PENDING])
async def test_a_start_that_the_spawner_never_heard_of_is_made(
    spawner: Spawner, told: Told, tmp_path: Path, state: State
) -> None:
    kept(tmp_path / "s", state=state, has_newer_request=True)
    broker = Broker(spawner, tmp_path / "s", told)
    await broker.ready()
    await asyncio.to_thread(spawner.said.wait_for, '"spawned"')
    await broker.kill()
    assert spawned(spawner) == 1


async def test_brokers_that_follow_one_another_dont_put_a_start_off(
    spawner: Spawner, told: Told, tmp_path: Path
) -> None:
    """After ten bad ends it waits for a minute in all, and not for a minute from each broker's start."""
    due = time.monotonic() + 50
    kept(tmp_path / "s", state=State.RESTART_PENDING, has_newer_request=True, failed_starts=10, restart_at=due)
    for _ in range(3):
        broker = Broker(spawner, tmp_path / "s", told)
        await broker.ready()
        [endpoint] = broker.supervisor.endpoints
        assert abs(endpoint.restart_at - due) < 1
        await broker.kill()
    kept(
        tmp_path / "s",
        state=State.RESTART_PENDING,
        has_newer_request=True,
        failed_starts=10,
        restart_at=time.monotonic() + 1,
    )
    broker = Broker(spawner, tmp_path / "s", told)
    await broker.ready()
    await asyncio.to_thread(spawner.said.wait_for, '"spawned"', seconds=45)
    await broker.kill()


def test_a_clock_that_was_put_back_delays_no_start(tmp_path: Path) -> None:
    kept(
        tmp_path / "s",
        state=State.RESTART_PENDING,
        has_newer_request=True,
        failed_starts=3,
        restart_at=time.monotonic() + 86400,
    )
    [endpoint] = Store(tmp_path / "s", None).load()
    assert endpoint.restart_at <= time.monotonic() + registry.restart_delay(3)


def test_the_person_whom_batch_jobs_name_outlasts_the_broker(tmp_path: Path) -> None:
    kept(tmp_path / "s", state=State.RUNNING)
    [endpoint] = Store(tmp_path / "s", None).load()
    assert endpoint.request is not None
    assert endpoint.request.document.job_person == "ada@uni.example"


async def test_a_start_that_the_spawner_has_made_is_not_made_again(
    spawner: Spawner, told: Told, tmp_path: Path
) -> None:
    first = Broker(spawner, tmp_path / "a", told)
    await first.ready()
    await first.supervisor.command(request(endpoint_user(), "sleep"))
    await first.kill()
    kept(tmp_path / "b", state=State.STARTING)
    second = Broker(spawner, tmp_path / "b", told)
    await second.ready()
    await second.supervisor.command(request(endpoint_user(), "sleep"))  # RabbitMQ delivers it again
    assert [endpoint.state for endpoint in second.supervisor.endpoints] == [State.RUNNING]
    await second.kill()
    assert spawned(spawner) == 1


async def test_a_start_of_an_earlier_broker_is_stopped_before_it_is_made(
    spawner: Spawner, told: Told, tmp_path: Path
) -> None:
    kept(tmp_path / "s", state=State.STARTING)
    broker = Broker(spawner, tmp_path / "s", told)
    assert await broker.supervisor.stop(UEP), "there is no connection to the spawner yet"
    await broker.ready()
    assert "administrator stopped your endpoint" in await told.next()
    assert not any(line["event"] == "spawn" for line in spawner.audit())
    await broker.kill()


@pytest.mark.parametrize("state", [State.STARTING, State.RUNNING])
async def test_what_an_earlier_broker_started_is_stopped_when_the_spawner_is_there(
    spawner: Spawner, told: Told, tmp_path: Path, state: State
) -> None:
    first = Broker(spawner, tmp_path / "a", told)
    await first.ready()
    await first.supervisor.command(request(endpoint_user(), "sleep"))
    await first.kill()
    kept(tmp_path / "b", state=state)
    second = Broker(spawner, tmp_path / "b", told)
    assert await second.supervisor.stop(UEP), "there is no connection to the spawner yet"
    await second.ready()
    assert "administrator stopped your endpoint" in await told.next()
    assert spawned(spawner) == 1
    await second.kill()


async def test_an_endpoint_that_went_with_its_spawner_is_told_of(spawner: Spawner, told: Told, tmp_path: Path) -> None:
    kept(tmp_path / "s", state=State.RUNNING)
    broker = Broker(spawner, tmp_path / "s", told)
    await broker.ready()
    assert "lost with the site's spawner" in await told.next()
    await broker.kill()


@pytest.mark.parametrize("folder", ["s", "another"])
async def test_an_endpoint_runs_since_its_start_whatever_came_later(
    spawner: Spawner, told: Told, tmp_path: Path, folder: str
) -> None:
    first = Broker(spawner, tmp_path / "s", told)
    await first.ready()
    before = time.monotonic()
    await first.supervisor.command(request(endpoint_user(), "sleep"))
    started = time.monotonic()
    async with asyncio.timeout(60):
        while time.monotonic() < started + 2:
            await asyncio.sleep(0.05)
    await first.supervisor.command(request(endpoint_user(), "sleep"))
    await first.kill()
    second = Broker(spawner, tmp_path / folder, told)  # in another folder it knows nothing but the spawner's table
    await second.ready()
    [endpoint] = second.supervisor.endpoints
    assert before - 0.5 < endpoint.started < started + 0.5
    await second.kill()


async def test_a_broken_record_costs_nobody_else_anything(
    spawner: Spawner, told: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept(tmp_path / "s", state=State.RUNNING)
    good = next((tmp_path / "s").glob("*.json")).read_text()
    values = json.loads(good)
    for number, text in enumerate(["", "[]", '{"id": 1}', good[:-40], json.dumps(values | {"state": "DANCING"})]):
        (tmp_path / "s" / f"bad{number}.json").write_text(text)
    broker = Broker(spawner, tmp_path / "s", told)
    await broker.ready()
    assert "lost with the site's spawner" in await told.next()
    assert caplog.text.count("can't be read; what waited for this endpoint is lost") == 5
    await broker.kill()


async def test_a_state_folder_that_cant_be_written_stops_no_start(
    spawner: Spawner, told: Told, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    broker = Broker(spawner, tmp_path / "file" / "s", told)
    await broker.ready()
    await broker.supervisor.command(request(endpoint_user(), "sleep"))
    assert spawned(spawner) == 1
    assert "if the broker ends now" in caplog.text
    await broker.kill()


def test_a_record_of_the_first_version_is_read(tmp_path: Path) -> None:
    (tmp_path / f"{UEP}.json").write_text(json.dumps(record_of_0_1()))
    [endpoint] = Store(tmp_path, None).load()
    assert (endpoint.state, endpoint.failed_starts, endpoint.has_newer_request) == (State.BACKING_OFF, 3, True)
    assert (endpoint.has_unfinished_tasks, endpoint.command) == (True, "0badcafe")
    assert time.monotonic() - endpoint.requested_at == pytest.approx(20, abs=2)
    assert endpoint.restart_at - time.monotonic() == pytest.approx(4, abs=2)
    assert endpoint.request is not None
    assert endpoint.request.document.match == Match("ada", ALICE, [])


def test_a_record_is_written_as_the_first_version_would_read_it(tmp_path: Path) -> None:
    """Whoever goes back to an earlier version keeps the endpoints; it doesn't look at the new keys."""
    path = tmp_path / f"{UEP}.json"
    path.write_text(json.dumps(record_of_0_1()))
    store = Store(tmp_path, None)
    [endpoint] = store.load()
    path.unlink()
    store.save(endpoint)
    written, first = json.loads(path.read_text()), record_of_0_1()
    for moment in ("arrived", "started", "again"):
        assert written.pop(moment) == pytest.approx(first.pop(moment), abs=2)
    assert written["request"].pop("options") == {}
    assert written["request"].pop("job_person") is None
    assert written == first | {"mode": None, "signed": None, "stopped_by": None}


def test_records_are_the_brokers_alone(tmp_path: Path) -> None:
    kept(tmp_path / "s", state=State.RUNNING)
    assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == 0o700


@pytest.mark.parametrize("change", [lambda values: values.pop("user"), lambda values: values.update(request={})])
def test_records_that_we_did_not_write_are_refused(
    tmp_path: Path, change: Callable[[dict[str, object]], object], caplog: pytest.LogCaptureFixture
) -> None:
    kept(tmp_path / "s", state=State.RUNNING)
    path = next((tmp_path / "s").glob("*.json"))
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))
    assert list(Store(tmp_path / "s", None).load()) == []
    assert path.name in caplog.text
