"""What one account, one endpoint or one task does to the broker's sockets costs nobody else anything."""

import asyncio
import contextlib
import os
import re
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from broker_rig import amqp_creds, endpoint_user, message, request
from broker_site import CALLER, OTHER, Site, another, ask, says
from spawner_rig import PYTHON
from twinlock_broker.compute.command import credentials
from twinlock_broker.control import admin
from twinlock_broker.control.door import MOST_UNKNOWN
from twinlock_broker.control.listener import Caller, listening
from twinlock_broker.metrics import REGISTRY
from twinlock_common import log_ration

# An endpoint that gets credentials, then comes again and again, reads nothing, closes nothing, and says that it has.
HOARDER = """
import json, socket, sys
control = json.load(sys.stdin)["control"]
kept = []
def come(figure):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].connect(control)
    kept[-1].sendall(json.dumps({"type": "figures", "figures": {figure: 1}}).encode() + b"\\n")
come("here")
kept[0].recv(1)
for _ in range(100):
    come("coming")
come("all_open")
sys.stdin = open(0)
while kept[-1].recv(1 << 20):
    pass
"""

# An endpoint that sends figures without end.
CHATTER = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(json.load(sys.stdin)["control"])
while True:
    sock.sendall(b'{"type": "figures", "figures": {"here": 1}}\\n')
"""

# Opens connections to the socket that its argument names, keeps them, and tells on each line how many are left open.
CROWD = """
import resource, select, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
kept = []
for _ in range(int(sys.argv[2])):
    kept.append(socket.socket(socket.AF_UNIX))
    kept[-1].connect(sys.argv[1])
print("open", flush=True)
poll = select.poll()
for sock in kept:
    poll.register(sock, select.POLLIN)
for line in sys.stdin:
    print(len(kept) - len(poll.poll(0)), flush=True)
"""


@pytest.fixture
def policy() -> dict[str, object]:
    """Programs that connect to the broker."""
    programs = {"hoarder": HOARDER, "chatter": CHATTER, "caller": CALLER}
    return {"programs": {name: [*PYTHON, code] for name, code in programs.items()}}


def open_files() -> int:
    """How many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def left_out(what: str) -> float:
    """How many of these the broker has left out."""
    return REGISTRY.get_sample_value("twinlock_dropped_total", {"what": what}) or 0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def few_files(most: int) -> Iterator[None]:
    """This process may have so many files open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


class Crowd:
    """A process with many connections to a socket."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    @contextlib.asynccontextmanager
    async def of(cls, path: Path, size: int, *options: str) -> AsyncIterator["Crowd"]:
        """It, when it has connected; it ends with the block."""
        argv = (*options, *PYTHON, CROWD, str(path), str(size))
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(*argv, stdin=pipe, stdout=pipe)
        assert process.stdout is not None
        try:
            assert await asyncio.wait_for(process.stdout.readline(), 60) == b"open\n"
            yield cls(process)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def until_left(self, most: int) -> int:
        """Wait until the other side has left at most so many of the connections open; how many."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        left = most + 1
        async with asyncio.timeout(60):
            while left > most:
                self._process.stdin.write(b"\n")
                left = int(await self._process.stdout.readline())
        return left


async def test_connections_that_are_replaced_and_never_read_cost_no_descriptors(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "hoarder"))
    await site.figures("here")
    before = open_files()
    large = credentials(message(amqp_creds=amqp_creds() | {"padding": "x" * 500_000}), None)
    newer = request(endpoint_user(), "hoarder")
    document = replace(newer.document, amqp=large.amqp)
    await site.supervisor.command(replace(newer, credentials=large, document=document))
    await site.figures("all_open")
    await until(lambda: open_files() < before + 10)


async def test_an_endpoint_that_never_stops_talking_holds_up_itself_alone(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    await site.supervisor.command(request(endpoint_user(), "chatter"))
    await until(lambda: "its messages come faster than they are handled" in caplog.text)
    await site.supervisor.command(another("caller", says({"type": "figures", "figures": {"there": 1}})))
    await site.figures("there", OTHER)
    await site.figures("here")


async def test_an_account_has_a_few_connections_that_are_none_of_an_endpoint(runtime: Path) -> None:
    served: list[Caller] = []

    async def serve(caller: Caller) -> None:
        served.append(caller)
        await caller.receive()

    before = left_out("connections"), left_out("log_lines")
    async with listening(runtime / "sock", 0o666, serve), Crowd.of(runtime / "sock", 100) as crowd:
        assert await crowd.until_left(MOST_UNKNOWN) == MOST_UNKNOWN
        await until(lambda: len(served) == MOST_UNKNOWN)
        refused = 100 - MOST_UNKNOWN
        assert left_out("connections") - before[0] == refused
        assert left_out("log_lines") - before[1] == refused - 1, "the first one has its line"
        served.pop().visitor.known()
        reader, writer = await asyncio.open_unix_connection(runtime / "sock")
        await until(lambda: len(served) == MOST_UNKNOWN)
        writer.close()
        assert await asyncio.wait_for(reader.read(), 60) == b""


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another account")
async def test_another_account_gets_in_beside_a_crowd(runtime: Path) -> None:
    served: list[int] = []

    async def serve(caller: Caller) -> None:
        served.append(caller.uid)
        await caller.receive()

    other = "setpriv", "--reuid=65534", "--clear-groups"
    async with listening(runtime / "sock", 0o666, serve), Crowd.of(runtime / "sock", 300, *other):
        reader, writer = await asyncio.open_unix_connection(runtime / "sock")
        await until(lambda: os.getuid() in served)
        writer.close()
        assert await asyncio.wait_for(reader.read(), 60) == b""
    assert served.count(65534) == MOST_UNKNOWN


async def test_the_broker_keeps_descriptors_for_its_own_work(runtime: Path) -> None:
    async def serve(caller: Caller) -> None:
        caller.visitor.known()
        await caller.receive()

    few = open_files() + 100
    with few_files(few):
        async with listening(runtime / "sock", 0o666, serve), Crowd.of(runtime / "sock", 150) as crowd:
            assert await crowd.until_left(few // 2) > 0
            with contextlib.ExitStack() as stack:
                for _ in range(few // 2 - 10):
                    stack.enter_context(open(os.devnull, "rb"))


async def test_a_host_without_descriptors_is_told_of_and_waited_for(
    runtime: Path, caplog: pytest.LogCaptureFixture
) -> None:
    served: list[Caller] = []

    async def serve(caller: Caller) -> None:
        served.append(caller)
        await caller.receive()

    async with listening(runtime / "sock", 0o600, serve):
        with socket.socket(socket.AF_UNIX) as sock, contextlib.ExitStack() as stack:
            with few_files(open_files() + 50):
                with contextlib.suppress(OSError):
                    while True:
                        stack.enter_context(open(os.devnull, "rb"))
                sock.connect(os.fspath(runtime / "sock"))
                await until(lambda: "no connection can be accepted: Too many open files" in caplog.text)
            stack.close()
            await until(lambda: bool(served))
    assert caplog.text.count("no connection can be accepted") == 1


async def test_an_unforeseen_error_of_one_connection_keeps_no_other_out(
    runtime: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here it is the kernel that doesn't say who has connected."""
    served: list[Caller] = []

    async def serve(caller: Caller) -> None:
        served.append(caller)

    def fail(*_: object) -> bytes:
        raise OSError("a fault")

    async with listening(runtime / "sock", 0o600, serve):
        with monkeypatch.context() as patch, socket.socket(socket.AF_UNIX) as sock:
            patch.setattr(socket.socket, "getsockopt", fail)
            sock.connect(os.fspath(runtime / "sock"))
            await until(lambda: "OSError: a fault" in caplog.text)
            sock.settimeout(60)
            assert sock.recv(1) == b"", "it was closed"
        reader, writer = await asyncio.open_unix_connection(runtime / "sock")
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()
    assert len(served) == 1


async def test_a_client_that_asks_nothing_is_disconnected(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin, "SILENCE_LIMIT", 1.0)
    reader, writer = await asyncio.open_unix_connection(site.runtime / "admin.sock")
    writer.write(b'{"request": "sta')
    assert b"nothing was asked" in await asyncio.wait_for(reader.readline(), 60)
    assert await asyncio.wait_for(reader.read(), 60) == b""
    writer.close()
    monkeypatch.undo()
    assert (await ask(site.runtime / "admin.sock", '{"request": "status"}'))["endpoints"] == []


async def test_what_was_sent_before_the_end_can_be_read(runtime: Path) -> None:
    async def serve(caller: Caller) -> None:
        caller.send({"text": "x" * 1_000_000})

    async with listening(runtime / "sock", 0o600, serve):
        reader, writer = await asyncio.open_unix_connection(runtime / "sock")
        assert len(await asyncio.wait_for(reader.read(), 60)) > 1_000_000
        writer.close()


async def test_who_never_reads_the_last_words_is_disconnected(runtime: Path) -> None:
    before = open_files()
    served: list[Caller] = []

    async def serve(caller: Caller) -> None:
        served.append(caller)
        caller.send({"text": "x" * 1_000_000})

    async with listening(runtime / "sock", 0o600, serve):
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(os.fspath(runtime / "sock"))
            await until(lambda: bool(served))
            await until(lambda: open_files() <= before + 2)  # the client's, and the one that listens


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the broker has logged."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("twinlock_broker.control")]


async def knock(path: Path, times: int) -> None:
    """Connect so often, as an account that has no endpoint."""
    for _ in range(times):
        reader, writer = await asyncio.open_unix_connection(path)
        assert await asyncio.wait_for(reader.read(), 60) == b""
        writer.close()


async def test_an_account_that_connects_without_end_makes_a_line_a_minute(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_ration, "MINUTE", 3600.0)  # which 1,000 connections don't outlast, however busy the host
    await knock(site.runtime / "control.sock", 1000)
    assert len(said(caplog)) <= 3  # it is no endpoint; its connections are refused; there are too many of them
    assert "isn't a user endpoint" in said(caplog)[0]


async def test_the_line_of_the_next_minute_says_how_often(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two lines as a rule; more where a busy host takes more than such a minute for the knocks."""
    monkeypatch.setattr(log_ration, "MINUTE", 5.0)
    await knock(site.runtime / "control.sock", 11)
    async with asyncio.timeout(60):
        while sum(map(times, said(caplog))) < 11:
            await asyncio.sleep(0.01)
    assert sum(map(times, said(caplog))) == 11
    assert len(said(caplog)) < 11


def times(line: str) -> int:
    """How often what a line says happened, beyond what lines before it say."""
    assert "isn't a user endpoint" in line
    more = re.search(r"\((\d+) more times within a minute\)$", line)
    return int(more[1]) if more else 1
