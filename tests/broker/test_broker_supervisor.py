"""Endpoints under the supervisor, started by a real spawner."""

import asyncio
import contextlib
import dataclasses
import datetime
import json
import signal
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, request
from spawner_rig import Spawner
from twinlock_broker.endpoints import registry
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.spawner.client import Listener, SpawnerClient
from twinlock_wire import wire


class LateClient(SpawnerClient):
    """The answer to its first start comes when its listener has already heard of the end."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._ended = asyncio.Event()

    async def run(self, listener: Listener) -> None:
        await super().run(Overheard(listener, self._ended))

    async def spawn(self, request: wire.Spawn, fds: Sequence[int]) -> wire.Spawned | wire.Refused:
        answer = await super().spawn(request, fds)
        await self._ended.wait()
        return answer


@dataclass(frozen=True)
class Overheard:
    """A client's listener; `ended` is set when it has heard of an end."""

    listener: Listener
    ended: asyncio.Event

    def listed(self, children: Sequence[wire.Child]) -> None:
        self.listener.listed(children)

    def exited(self, child: str, status: int) -> Coroutine[Any, Any, None] | None:
        rest = self.listener.exited(child, status)
        self.ended.set()
        return rest


@contextlib.asynccontextmanager
async def connected(
    spawner: Spawner, told: Told, state: Path, client: SpawnerClient | None = None
) -> AsyncIterator[tuple[Supervisor, SpawnerClient]]:
    """A broker's supervisor, for as long as the broker lives."""
    client = client or SpawnerClient(spawner.socket)
    supervisor = Supervisor(MANAGER, 30.0, Launcher(client, {}, state), Store(state, None), told.send)
    running = asyncio.create_task(client.run(supervisor))
    await asyncio.wait_for(client.ready.wait(), 60)
    yield supervisor, client
    running.cancel()
    await asyncio.wait((running,))


async def test_what_an_endpoint_prints_and_how_it_ends_is_told(supervisor: Supervisor, told: Told) -> None:
    await supervisor.command(request(endpoint_user(), "report"))
    text = await told.next()
    assert "ended with exit code 0 before it was up. It printed:" in text
    assert "GC_X" in text, "the program prints its stdin, the document"
    await supervisor.command(request(endpoint_user(), "fail"))
    assert "ended with exit code 7 before it was up. It printed nothing" in await told.next()


async def test_a_refusal_is_told_before_the_command_is_done(supervisor: Supervisor, told: Told) -> None:
    await supervisor.command(request(endpoint_user(), "gone"))
    text, detail = told.notices[-1]
    assert "endpoint program is missing" in text
    assert "programs.gone" not in text
    assert "spawner: program: [Errno 2]" in detail
    await supervisor.command(request("root", "sleep"))
    assert "policy doesn't let the account 'root'" in told.notices[-1][0]


async def test_one_id_leads_from_a_users_error_to_roots_log(
    supervisor: Supervisor, spawner: Spawner, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "twinlock_broker")
    events = []
    for user, program in (("root", "sleep"), (endpoint_user(), "gone"), (endpoint_user(), "fail")):
        asked = request(user, program)
        await supervisor.command(asked)
        await told.next()
        assert told.commands[-1] == asked.command
        assert asked.command in [record.__dict__.get("command") for record in caplog.records]
        events.append([line["event"] for line in spawner.audit() if line.get("command") == asked.command])
    assert events == [["spawn", "refused"]] * 2 + [["spawn", "identity", "spawned", "exited"]]


async def test_the_end_of_an_endpoint_is_told_under_the_command_that_started_it(
    supervisor: Supervisor, client: SpawnerClient, told: Told
) -> None:
    """Not under the one that has come since: root's log has the first one's id."""
    first, second = request(endpoint_user(), "sleep"), request(endpoint_user(), "sleep")
    await supervisor.command(first)
    await supervisor.command(second)
    await supervisor.stop(first.id)
    await told.next()
    assert told.commands[-1] == first.command


async def test_a_newer_command_restarts_what_ended_of_itself(
    supervisor: Supervisor, client: SpawnerClient, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "SETTLED_AFTER", 0.0)
    started = request(endpoint_user(), "sleep")
    await supervisor.command(started)
    await supervisor.command(request(endpoint_user(), "gone"))
    await client.signal(started.id, "TERM")
    assert "endpoint program is missing" in await told.next(), "it was started with the newer command"


async def test_an_endpoint_of_another_account_is_replaced(supervisor: Supervisor, told: Told) -> None:
    await supervisor.command(request(endpoint_user(), "sleep"))
    await supervisor.command(request("root", "sleep"))
    assert "policy doesn't let the account 'root'" in await told.next()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_ends_with_the_spawner_are_told_even_if_none_follows(
    supervisor: Supervisor, spawner: Spawner, told: Told, number: signal.Signals
) -> None:
    await supervisor.command(request(endpoint_user(), "sleep"))
    spawner.process.send_signal(number)
    await asyncio.to_thread(spawner.process.wait, 60)
    notice = await told.next()
    assert "lost with the site's spawner" in notice or "killed by signal 15" in notice


@pytest.mark.parametrize("policy", [{"programs": {}}])  # its own check has to be content
async def test_a_spawner_that_starts_over_loses_nothing(
    supervisor: Supervisor, client: SpawnerClient, spawner: Spawner, told: Told
) -> None:
    running = request(endpoint_user(), "sleep")
    await supervisor.command(running)
    said = spawner.said.count()
    spawner.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(spawner.said.wait_for, '"hello"', after=said)
    await asyncio.wait_for(client.ready.wait(), 60)
    assert told.notices == []
    await client.signal(running.id, "TERM")
    assert "killed by signal 15" in await told.next()


async def test_many_commands_for_one_endpoint_start_it_once(
    supervisor: Supervisor, spawner: Spawner, told: Told
) -> None:
    await asyncio.gather(*(supervisor.command(request(endpoint_user(), "sleep")) for _ in range(20)))
    assert sum(line["event"] == "spawned" for line in spawner.audit()) == 1
    assert told.notices == []


async def test_a_new_broker_takes_over_what_runs(spawner: Spawner, told: Told, tmp_path: Path) -> None:
    async with connected(spawner, told, tmp_path / "lost") as (first, _):
        await first.command(request(endpoint_user(), "sleep"))
    async with connected(spawner, told, tmp_path / "empty") as (second, client):
        newer = request(endpoint_user(), "gone")
        await second.command(newer)
        assert told.notices == [], "it runs already, so the command is remembered"
        await client.signal(newer.id, "TERM")
        assert "endpoint program is missing" in await told.next()


async def test_a_program_that_dies_at_once_is_started_after_growing_delays(
    supervisor: Supervisor, spawner: Spawner, told: Told
) -> None:
    for _ in range(3):
        await supervisor.command(request(endpoint_user(), "fail"))
        assert "ended with exit code 7 before it was up" in await told.next()
    first, second, third = [line["time"] for line in spawner.audit() if line["event"] == "spawned"]
    assert moment(second) - moment(first) >= 1
    assert moment(third) - moment(second) >= 2


async def test_the_administrator_stops_an_endpoint_and_its_user_is_told(supervisor: Supervisor, told: Told) -> None:
    running, ended = request(endpoint_user(), "sleep"), []
    supervisor.listeners.stopping = lambda endpoint, reason: ended.append((endpoint.id, reason))
    await supervisor.command(running)
    assert await supervisor.stop(running.id)
    assert ended == [(running.id, "the administrator stopped it")], "before it gets a signal"
    assert "administrator stopped your endpoint" in await told.next()
    assert not await supervisor.stop(running.id), "there is none any more"


async def test_a_stop_waits_for_the_start_that_follows_another(
    spawner: Spawner, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one ends well before anybody knows that it was started, and a newer command has come."""
    monkeypatch.setattr(registry, "SETTLED_AFTER", 0.0)
    async with connected(spawner, told, tmp_path, LateClient(spawner.socket)) as (supervisor, _):
        first = asyncio.create_task(supervisor.command(request(endpoint_user(), "report")))
        async with asyncio.timeout(60):
            while not any(endpoint.command for endpoint in supervisor.endpoints):  # the start is under way
                await asyncio.sleep(0)
        await supervisor.command(request(endpoint_user(), "sleep"))
        assert await supervisor.stop(UEP)
        assert "administrator stopped your endpoint" in await told.next()
        assert sum(line["event"] == "spawned" for line in spawner.audit()) == 2
        await first


async def test_what_was_stopped_is_started_by_the_next_command(supervisor: Supervisor, told: Told) -> None:
    running = request(endpoint_user(), "sleep")
    await supervisor.command(running)
    await supervisor.stop(running.id)
    await supervisor.command(request(endpoint_user(), "gone"))
    assert "endpoint program is missing" in await told.next(), "the newer command was carried out, nothing was told"


def moment(text: str) -> float:
    """Seconds since 1970 of a time in the audit log."""
    return datetime.datetime.fromisoformat(text).timestamp()


async def test_what_failed_is_kept_with_all_that_led_to_it(supervisor: Supervisor, told: Told) -> None:
    made = dataclasses.replace(request(endpoint_user(), "fail"), options={"account_id": "a"})
    supervisor.failures.commanded(made.command, "alice@site.example")
    await supervisor.command(made)
    reason = await told.next()
    (failure,) = supervisor.failures.of(UEP)
    assert (failure["stage"], failure["command"], failure["reason"]) == ("program", made.command, reason)
    assert failure["detail"] == "ended with exit code 7 before it was up"
    assert (failure["identity"], failure["user"]) == ("alice@site.example", endpoint_user())
    assert json.loads(failure["options"]) == {"account_id": "a"}


async def test_the_stage_at_which_the_spawner_refused_is_kept(supervisor: Supervisor) -> None:
    await supervisor.command(request("root", "sleep"))
    (failure,) = supervisor.failures.of(None)
    assert (failure["stage"], failure["user"]) == ("policy", "root")
    assert failure["detail"].startswith("spawner: policy: ")
    assert supervisor.failures.of("another") == []


async def test_who_is_stopped_has_not_failed(supervisor: Supervisor, told: Told) -> None:
    await supervisor.command(request(endpoint_user(), "sleep"))
    await supervisor.stop(UEP)
    await told.next()
    assert supervisor.failures.of(None) == []
