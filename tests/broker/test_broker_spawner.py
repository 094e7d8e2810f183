"""The client against a real spawner, and against an end of the socket that misbehaves."""

import asyncio
import os
import signal
import socket
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from broker_rig import MANAGER, endpoint_user
from spawner_rig import Spawner, sealed, uep
from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.readers import Readers
from twinlock_broker.errors import Fatal
from twinlock_broker.spawner.client import SpawnerClient
from twinlock_wire import wire


class Heard:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.tables: list[dict[str, wire.Child]] = []
        self.ends: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    def listed(self, children: Sequence[wire.Child]) -> None:
        self.tables.append({child.id: child for child in children})

    def exited(self, child: str, status: int) -> None:
        self.ends.put_nowait((child, status))

    async def end(self) -> tuple[str, int]:
        """The next end."""
        return await asyncio.wait_for(self.ends.get(), 60)


@asynccontextmanager
async def running(client: SpawnerClient) -> AsyncIterator[Heard]:
    """The client, connected."""
    heard = Heard()
    task = asyncio.create_task(client.run(heard))
    await asyncio.wait_for(client.ready.wait(), 60)
    try:
        yield heard
    finally:
        task.cancel()
        await asyncio.wait((task,))


async def spawn(client: SpawnerClient, number: int, program: str) -> tuple[wire.Spawned | wire.Refused, Output]:
    """Have a child started whose stdin is empty."""
    request = wire.Spawn(uep(number), endpoint_user(), f"uep.{MANAGER}.{uep(number)}", program)
    output = Output(Readers(), Path(tempfile.gettempdir()), str(uuid.uuid4()), endpoint_user())
    writer, document = await output.writer(), sealed()
    try:
        return await client.spawn(request, (document, writer)), output
    finally:
        os.close(document)
        os.close(writer)


async def test_start_signal_end_and_start_again(client: SpawnerClient) -> None:
    async with running(client) as heard:
        for _ in range(2):  # the second start shows that the first end was noted
            reply, output = await spawn(client, 1, "sleep")
            assert isinstance(reply, wire.Spawned), reply
            await client.signal(uep(1), "TERM")
            assert await heard.end() == (uep(1), signal.SIGTERM)
            await output.finish()


async def test_what_a_child_prints_before_it_ends_is_there(client: SpawnerClient) -> None:
    async with running(client) as heard:
        reply, output = await spawn(client, 1, "report")
        assert isinstance(reply, wire.Spawned), reply
        assert await heard.end() == (uep(1), 0)
        await output.finish()
        assert '"umask": 63' in output.text


async def test_refusals(client: SpawnerClient) -> None:
    async with running(client):
        reply, output = await spawn(client, 1, "gone")
        await output.finish()
        assert isinstance(reply, wire.Refused)
        assert reply.stage == "program"
        reply, output = await spawn(client, 1, "nosuch")
        await output.finish()
        assert isinstance(reply, wire.Refused)
        assert reply.stage == "policy"


async def test_many_starts_at_once_get_their_own_answers(client: SpawnerClient) -> None:
    async with running(client):
        answers = await asyncio.gather(*(spawn(client, number, "sleep") for number in range(6)))
        replies = [reply for reply, _ in answers]
        assert [reply.id for reply in replies] == [uep(number) for number in range(6)]
        assert sum(isinstance(reply, wire.Spawned) for reply in replies) == 3  # max_children_per_user
        for _, output in answers:
            await output.finish()


async def test_a_new_broker_finds_the_children_and_the_ends_that_nobody_saw(spawner: Spawner) -> None:
    first = SpawnerClient(spawner.socket)
    async with running(first):
        replies = [await spawn(first, number, "sleep") for number in (1, 2)]
    killed = replies[1][0]
    assert isinstance(killed, wire.Spawned)
    said = spawner.said.count()
    os.kill(killed.pid, signal.SIGKILL)
    await asyncio.to_thread(spawner.said.wait_for, '"exited"', after=said)
    async with running(SpawnerClient(spawner.socket)) as heard:
        assert heard.tables[-1][uep(2)].ended == signal.SIGKILL
        assert heard.tables[-1][uep(1)].ended is None
    async with running(SpawnerClient(spawner.socket)) as heard:
        assert heard.tables[-1].keys() == {uep(1)}
    for _, output in replies:
        await output.finish()


async def test_two_brokers_of_one_spawner_do_not_wear_it_out(spawner: Spawner) -> None:
    """The newest connection ends the one before it. They take turns, and ever more slowly."""
    began = asyncio.get_running_loop().time()
    async with asyncio.timeout(120), running(SpawnerClient(spawner.socket)), running(SpawnerClient(spawner.socket)):
        while sum(line["event"] == "hello" for line in spawner.audit()) < 14:
            await asyncio.sleep(0.1)
    assert asyncio.get_running_loop().time() > began + 2, "at a tenth of a second each it is done in less than one"


async def test_a_start_waits_for_a_spawner_that_is_away(spawner: Spawner) -> None:
    spawner.process.send_signal(signal.SIGSTOP)
    client = SpawnerClient(spawner.socket)
    task = asyncio.create_task(client.run(Heard()))
    starting = asyncio.create_task(spawn(client, 1, "sleep"))
    done, _ = await asyncio.wait((starting,), timeout=0.2)
    assert not done
    spawner.process.send_signal(signal.SIGCONT)
    reply, output = await asyncio.wait_for(starting, 60)
    assert isinstance(reply, wire.Spawned)
    await output.finish()
    task.cancel()


class End:
    """A spawner's end of the socket that says what the test wants."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._connection: socket.socket | None = None

    async def accept(self, *replies: wire.Reply) -> None:
        """Hang up on the connection there was, take the next one, and say this."""
        self.close()
        loop = asyncio.get_running_loop()
        self._connection, _ = await asyncio.wait_for(loop.sock_accept(self._listener), 60)
        await self.say(*replies)

    async def accept_list(self, *children: wire.Child) -> None:
        """Take the next connection and say Hello and this table."""
        await self.accept(wire.Hello(wire.VERSION))
        assert await self.hear() == wire.List()
        await self.say(wire.Children(list(children)))

    async def say(self, *replies: wire.Reply) -> None:
        """Send replies."""
        assert self._connection is not None
        for reply in replies:
            await asyncio.get_running_loop().sock_sendall(self._connection, wire.encode(reply))

    async def hear(self) -> wire.Request:
        """The next request."""
        assert self._connection is not None
        data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self._connection, wire.MAX_DATAGRAM), 60)
        request: wire.Request = wire.decode(data, wire.REQUESTS)
        return request

    def close(self) -> None:
        """Hang up."""
        if self._connection is not None:
            self._connection.close()


@pytest.fixture
async def end(tmp_path: Path) -> End:
    """An end that waits for its first connection."""
    return End(tmp_path / "spawner.sock")


@asynccontextmanager
async def lost_on_the_way(end: End) -> AsyncIterator[asyncio.Task[tuple[wire.Spawned | wire.Refused, Output]]]:
    """A start whose request went out on a connection that then broke."""
    client, heard = SpawnerClient(end.path), Heard()
    running = asyncio.create_task(client.run(heard))
    starting = asyncio.create_task(spawn(client, 1, "sleep"))
    await end.accept_list()
    assert isinstance(await end.hear(), wire.Spawn)
    yield starting
    await (await starting)[1].finish()
    running.cancel()
    end.close()


ROW = wire.Child(uep(1), 77, "ada", f"uep.{MANAGER}.{uep(1)}", None)


async def test_a_start_that_was_carried_out_isnt_asked_for_twice(end: End) -> None:
    async with lost_on_the_way(end) as starting:
        await end.accept_list(ROW)
        assert (await starting)[0] == wire.Spawned(uep(1), 77)


async def test_a_start_that_got_lost_is_asked_for_again(end: End) -> None:
    async with lost_on_the_way(end) as starting:
        await end.accept_list()
        assert isinstance(await end.hear(), wire.Spawn)
        await end.say(wire.Spawned(uep(1), 78))
        assert (await starting)[0] == wire.Spawned(uep(1), 78)


async def test_a_start_between_fork_and_exec_is_waited_for(end: End) -> None:
    async with lost_on_the_way(end) as starting:
        await end.accept_list()
        assert isinstance(await end.hear(), wire.Spawn)
        await end.say(wire.Refused(uep(1), "duplicate", "it is there"), wire.Spawned(uep(1), 79))
        assert (await starting)[0] == wire.Spawned(uep(1), 79)


async def test_a_start_of_an_earlier_broker_between_fork_and_exec_is_waited_for(end: End) -> None:
    client = SpawnerClient(end.path)
    running = asyncio.create_task(client.run(Heard()))
    starting = asyncio.create_task(spawn(client, 1, "sleep"))
    await end.accept_list()
    assert isinstance(await end.hear(), wire.Spawn)
    await end.say(wire.Refused(uep(1), "duplicate", "it is there"), wire.Spawned(uep(1), 79))
    reply, output = await starting
    assert reply == wire.Spawned(uep(1), 79)
    await output.finish()
    running.cancel()
    end.close()


async def test_an_end_during_the_list_is_heard_and_noted_once(end: End) -> None:
    client, heard = SpawnerClient(end.path), Heard()
    running = asyncio.create_task(client.run(heard))
    await end.accept(wire.Hello(wire.VERSION))
    assert await end.hear() == wire.List()
    await end.say(wire.Children([ROW] * wire.MAX_PAGE), wire.Exited(uep(1), 77, 9), wire.Children([]))
    assert await end.hear() == wire.Noted(uep(1))
    assert [table[uep(1)].ended for table in heard.tables] == [9]
    assert heard.ends.empty()
    running.cancel()
    end.close()


async def test_a_child_that_nobody_asked_for_has_the_table_read_again(end: End) -> None:
    client, heard = SpawnerClient(end.path), Heard()
    running = asyncio.create_task(client.run(heard))
    await end.accept_list()
    await end.say(wire.Spawned(uep(1), 77))
    await end.accept_list(ROW)
    await asyncio.wait_for(client.ready.wait(), 60)
    assert uep(1) in heard.tables[-1]
    running.cancel()
    end.close()


@pytest.mark.parametrize("versions", [[1], [1, 2], [1, 2, 3]])
async def test_a_spawner_of_another_version_gets_what_it_understands(end: End, versions: list[int]) -> None:
    client = SpawnerClient(end.path)
    running = asyncio.create_task(client.run(Heard()))
    await end.accept(*map(wire.Hello, versions))
    assert await end.hear() == wire.List()
    await end.say(wire.Children([]))
    asked = wire.Spawn(uep(1), "ada", f"uep.{MANAGER}.{uep(1)}", "sleep", "0badcafe")
    starting = asyncio.create_task(client.spawn(asked, []))
    assert await end.hear() == (asked if 2 in versions else asked._replace(command=""))
    await end.say(wire.Spawned(uep(1), 77))
    assert await asyncio.wait_for(starting, 60) == wire.Spawned(uep(1), 77)
    running.cancel()
    end.close()


@pytest.mark.parametrize("greeting", [wire.Hello(wire.VERSION + 1), wire.Spawned(uep(1), 1)])
async def test_another_version_is_fatal(end: End, greeting: wire.Reply) -> None:
    running = asyncio.create_task(SpawnerClient(end.path).run(Heard()))
    await end.accept(greeting)
    with pytest.raises(Fatal, match="update both together") as ended:
        await asyncio.wait_for(running, 60)
    assert ended.value.status == os.EX_PROTOCOL
    end.close()
