"""The AMQP parts against a private RabbitMQ node: links, heartbeats, commands and notices."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from amqp_gate import Gate, no_accidents
from broker_rabbit import Rabbit
from broker_rig import MANAGER, UEP, amqp_creds, message
from globus_compute_common import messagepack
from twinlock_broker.compute import command, notices
from twinlock_broker.compute.command import Credentials, Delivery
from twinlock_broker.compute.command_queue import CommandQueue
from twinlock_broker.compute.heartbeat import Heartbeat
from twinlock_broker.compute.notices import Notices
from twinlock_broker.compute.outbox import Outbox
from twinlock_broker.compute.queues import Source, Target
from twinlock_broker.compute.registration import Registration
from twinlock_broker.compute.renewal import Renewal
from twinlock_broker.errors import Fatal
from twinlock_broker.secret import Secret
from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.envelope import Envelope
from twinlock_common.amqp.errors import LinkError, RefusedMessageError
from twinlock_common.amqp.link import Link

pytestmark = [pytest.mark.system, pytest.mark.asyncio(loop_scope="package")]


@asynccontextmanager
async def linked(url: str) -> AsyncIterator[Link]:
    """An open link."""
    link = await Link.open(url)
    try:
        yield link
    finally:
        await link.close()


async def publish(link: Link, target: Target, body: bytes) -> None:
    """Publish it there."""
    await link.publish(target.envelope(), body)


async def test_publish_and_consume(rabbit: Rabbit) -> None:
    got: asyncio.Queue[Message] = asyncio.Queue()
    async with linked(rabbit.url) as link:
        consumer = await link.consume("cmds", 1, got.put_nowait)
        await rabbit.command(b"{}")
        found = await asyncio.wait_for(got.get(), 60)
        told = found.properties
        assert (told.content_type, told.timestamp, found.body) == ("application/json", 1700000000, b"{}")
        found.ack()
        await consumer.stop()
        await asyncio.gather(*(publish(link, rabbit.target, f"{number}".encode()) for number in range(20)))
    assert {await rabbit.take("beats") for _ in range(20)} == {f"{number}".encode() for number in range(20)}


async def test_a_message_that_no_queue_takes(rabbit: Rabbit) -> None:
    async with linked(rabbit.url) as link:
        with pytest.raises(LinkError, match="no queue takes the message"):
            await link.publish(Envelope("ep", "nowhere"), b"x")
        await publish(link, rabbit.target, b"after")
    assert await rabbit.take("beats") == b"after"


@pytest_asyncio.fixture(loop_scope="package")
async def low(rabbit: Rabbit) -> AsyncIterator[int]:
    """RabbitMQ takes messages of at most so many bytes, on channels that are opened from now on."""
    set_limit = "application:set_env(rabbit, max_message_size, {})"
    former = (await rabbit.evaluate("element(2, application:get_env(rabbit, max_message_size))")).strip()
    await rabbit.evaluate(set_limit.format(3000))
    yield 3000
    await rabbit.evaluate(set_limit.format(former))


@pytest.mark.thorough
async def test_a_message_that_rabbitmq_never_accepts(rabbit: Rabbit, low: int) -> None:
    async with linked(rabbit.url) as link:
        with pytest.raises(RefusedMessageError, match=f"configured max size {low}"):
            await publish(link, rabbit.target, b"x" * (low + 1))
    async with linked(rabbit.url) as link:
        await publish(link, rabbit.target, b"x" * low)
    assert await rabbit.take("beats") == b"x" * low


async def test_a_notice_that_rabbitmq_never_accepts_is_given_up(
    rabbit: Rabbit, low: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path, None)
    await asyncio.wait_for(Notices(outbox).send(about(rabbit), "why " * low), 60)
    assert not list(outbox.load())
    assert "RabbitMQ will never accept it" in caplog.text


async def test_what_isnt_allowed_ends_the_link(rabbit: Rabbit) -> None:
    async with linked(rabbit.url) as link:
        with pytest.raises(LinkError, match="ACCESS_REFUSED"):
            await link.consume("beats", 1, lambda found: None)
        assert "ACCESS_REFUSED" in str(await link.closed())
        with pytest.raises(LinkError):
            await publish(link, rabbit.target, b"x")


@pytest.mark.parametrize("url", ["amqp://ep-user:wrong@{}", "amqp://u:hush@127.0.0.1:1/v", "amqp://%zz"])
async def test_a_link_that_cant_be_opened_shows_no_password(rabbit: Rabbit, url: str) -> None:
    with pytest.raises(LinkError) as failed:
        await Link.open(url.format(rabbit.url.split("@")[1]))
    assert "wrong" not in str(failed.value)
    assert "hush" not in str(failed.value)


@pytest.mark.parametrize("frames", range(5), ids=["nothing", "Start", "Tune", "Open-Ok", "channel"])
async def test_a_link_that_isnt_wanted_any_more_while_it_is_opened(rabbit: Rabbit, frames: int) -> None:
    async with no_accidents(), Gate(rabbit.url, frames) as gate, asyncio.timeout(60):
        opening = asyncio.create_task(Link.open(gate.url))
        await gate.reached.wait()
        opening.cancel()
        await asyncio.wait([opening])
        assert opening.cancelled()
        gate.release()
        await gate.gone.wait()


@pytest.mark.parametrize("frames", range(5), ids=["nothing", "Start", "Tune", "Open-Ok", "channel"])
async def test_a_link_that_is_cut_while_it_is_opened(rabbit: Rabbit, frames: int) -> None:
    async with no_accidents(), Gate(rabbit.url, frames) as gate, asyncio.timeout(60):
        opening = asyncio.create_task(Link.open(gate.url))
        await gate.reached.wait()
        gate.cut()
        with pytest.raises(LinkError, match="StreamLostError"):
            await opening
        await gate.gone.wait()


@pytest.mark.parametrize("frames", range(3), ids=["nothing", "Start", "Tune"])
async def test_a_server_that_goes_silent_while_a_link_is_opened(rabbit: Rabbit, frames: int) -> None:
    async with no_accidents(), Gate(rabbit.url, frames) as gate, asyncio.timeout(60):
        with pytest.raises(LinkError, match="Timeout while setting up AMQP"):
            await Link.open(f"{gate.url}?stack_timeout=3")
        await gate.gone.wait()


async def registered(rabbit: Rabbit) -> Renewal:
    """A registration whose credentials are taken."""
    renewal = Renewal(lambda _: Registration(MANAGER, Source(Secret(rabbit.url), "cmds"), rabbit.target))
    await renewal.first(None)
    return renewal


def state(body: bytes) -> tuple[str, dict[str, Any]]:
    """Whose report it is and what it says, by the service's own decoder."""
    report = messagepack.unpack(body)
    assert isinstance(report, messagepack.message_types.EPStatusReport)
    return str(report.endpoint_id), report.global_state


async def test_a_command_whose_acknowledgement_was_lost_is_known_when_it_comes_again(rabbit: Rabbit) -> None:
    handled: list[bytes] = []
    reconnected = asyncio.Event()

    async def handle(found: Delivery) -> None:
        handled.append(found.body)
        if len(handled) == 1:
            commands.ready.clear()
            await rabbit.hang_up()
            await commands.ready.wait()
            reconnected.set()  # the connection is another one when this is decided

    commands = CommandQueue(await registered(rabbit), handle)
    running = asyncio.create_task(commands.run())
    async with asyncio.timeout(180):
        await rabbit.command(b"first")
        await reconnected.wait()
        await rabbit.command(b"second")
        while handled[-1] != b"second":
            await asyncio.sleep(0.01)
    await commands.stop()
    running.cancel()
    assert handled == [b"first", b"second"]


async def test_heartbeats_go_on_after_a_lost_connection_and_end_with_a_goodbye(rabbit: Rabbit) -> None:
    heartbeat = Heartbeat(await registered(rabbit), 3600)
    running = asyncio.create_task(heartbeat.run())
    await asyncio.wait_for(heartbeat.first.wait(), 60)
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 3600})
    heartbeat.first.clear()
    await rabbit.hang_up()
    await asyncio.wait_for(heartbeat.first.wait(), 60)
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 3600})
    running.cancel()
    await asyncio.wait((running,))
    await heartbeat.say_goodbye()
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 0})


class Enrolments:
    """Answers for a service: an outcome for each registration, in turn; the last one for all that follow."""

    def __init__(self, *outcomes: Registration | Fatal) -> None:
        self.outcomes = [*outcomes]
        self.asked: list[str | None] = []

    def __call__(self, known: str | None) -> Registration:
        """Register."""
        self.asked.append(known)
        outcome = self.outcomes[min(len(self.asked), len(self.outcomes)) - 1]
        if isinstance(outcome, Fatal):
            raise outcome
        return outcome


async def test_credentials_that_are_refused_lead_to_a_new_registration(rabbit: Rabbit) -> None:
    """Also where the service can't be reached at first; by then nothing has ended."""
    good = Registration(MANAGER, Source(Secret(rabbit.url), "cmds"), rabbit.target)
    old = rabbit.url.replace("hush", "expired")
    expired = Registration(MANAGER, Source(Secret(old), "cmds"), replace(rabbit.target, url=Secret(old)))
    service = Enrolments(expired, Fatal(os.EX_TEMPFAIL, "not now"), good)
    renewal = Renewal(service)
    await renewal.first(None)
    seen: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(found: Delivery) -> None:
        seen.put_nowait(found.body)

    commands, heartbeat = CommandQueue(renewal, handle), Heartbeat(renewal, 3600)
    running = [asyncio.create_task(part) for part in (commands.run(), heartbeat.run())]
    await asyncio.wait_for(heartbeat.first.wait(), 60)
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 3600})
    await rabbit.command(b"x")
    assert await asyncio.wait_for(seen.get(), 60) == b"x"
    assert service.asked == [None, MANAGER, MANAGER], "the same endpoint, once for both parts"
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    await commands.stop()
    await heartbeat.say_goodbye()
    assert state(await rabbit.take("beats")) == (MANAGER, {"heartbeat_period": 0})


async def test_a_service_that_has_no_such_endpoint_any_more_ends_the_broker(rabbit: Rabbit) -> None:
    old = Secret(rabbit.url.replace("hush", "expired"))
    expired = Registration(MANAGER, Source(old, "cmds"), replace(rabbit.target, url=old))
    renewal = Renewal(Enrolments(expired, Fatal(os.EX_UNAVAILABLE, "it was deleted")))
    await renewal.first(None)
    with pytest.raises(Fatal, match="it was deleted"):
        await asyncio.wait_for(Heartbeat(renewal, 3600).run(), 60)


async def test_a_command_is_acknowledged_when_its_outcome_is_decided(rabbit: Rabbit) -> None:
    seen: asyncio.Queue[bytes] = asyncio.Queue()
    decided = asyncio.Event()

    async def handle(found: Delivery) -> None:
        seen.put_nowait(found.body)
        if found.body == b"fails":
            raise RuntimeError("unexpected")
        if found.body == b"slow":
            await decided.wait()

    commands = CommandQueue(await registered(rabbit), handle)
    running = asyncio.create_task(commands.run())
    await asyncio.wait_for(commands.ready.wait(), 60)
    for body in (b"slow", b"fails", b"quick"):
        await rabbit.command(body)
    assert [await asyncio.wait_for(seen.get(), 60) for _ in range(3)] == [b"slow", b"fails", b"quick"]
    commands.ready.clear()
    await rabbit.hang_up()
    await asyncio.wait_for(commands.ready.wait(), 60)
    await rabbit.command(b"more")
    assert await asyncio.wait_for(seen.get(), 60) == b"more", "the slow one has come again by now, and is in work"
    decided.set()
    await commands.stop()
    running.cancel()
    await asyncio.wait((running,))
    assert seen.empty()
    await rabbit.command(b"after")
    assert await rabbit.take("cmds") == b"after", "all else was acknowledged, and nobody consumes any more"


def about(rabbit: Rabbit, url: str = "", key: str = "beats") -> Credentials:
    """Credentials of an endpoint whose notices go to the service by `key`."""
    return command.credentials(message(amqp_creds=amqp_creds(url or rabbit.url, key=key)), None)


async def test_a_notice_reaches_the_service(rabbit: Rabbit, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    await Notices(Outbox(tmp_path / "n", None)).send(about(rabbit), "what is wrong \ud800", "a detail", "0badcafe")
    endpoint, said = state(await rabbit.take("beats"))
    assert endpoint == UEP
    assert said["heartbeat_period"] == 3
    text, _, error_id = said["error"].partition("\n")
    assert text == "what is wrong ?"
    assert error_id == "(error id 0badcafe)"
    assert "0badcafe" in [record.__dict__.get("error_id") for record in caplog.records]
    assert "a detail" in caplog.text
    assert "a detail" not in json.dumps(said)
    assert list((tmp_path / "n").iterdir()) == []


async def test_a_notice_that_cant_be_sent_is_in_the_log(
    rabbit: Rabbit, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = rabbit.url.replace("hush", "wrong")
    await Notices(Outbox(tmp_path / "n", None)).send(about(rabbit, url), "what is wrong", "")
    assert "the user was not told" in caplog.text
    assert "wrong@" not in caplog.text


async def test_a_notice_waits_for_rabbitmq_and_outlives_the_broker(
    rabbit: Rabbit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_ATTEMPTS", 1)
    monkeypatch.setattr(notices, "RETRY", 0.1)
    await Notices(Outbox(tmp_path / "n", None)).send(about(rabbit, key="later"), "what is wrong", "")
    [kept] = (tmp_path / "n").iterdir()
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700, "it holds credentials"
    kept.with_name("broken.json").write_text("{}")
    sending = asyncio.create_task(Notices(Outbox(tmp_path / "n", None)).run())
    await rabbit.management.bind("ep", "beats", "later")
    endpoint, said = state(await rabbit.take("beats"))
    assert (endpoint, said["error"].partition("\n")[0]) == (UEP, "what is wrong")
    async with asyncio.timeout(60):
        while kept.exists():
            await asyncio.sleep(0.01)
    sending.cancel()


async def test_a_notice_is_void_when_its_endpoint_is_started_again(
    rabbit: Rabbit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "_ATTEMPTS", 1)
    sender = Notices(Outbox(tmp_path / "n", None))
    await sender.send(about(rabbit, key="never"), "what is wrong", "")
    sender.forget(UEP)
    assert list(Outbox(tmp_path / "n", None).load()) == []
