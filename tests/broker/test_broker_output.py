"""What an endpoint prints while it starts: what is kept of it, and that whoever keeps it from being read is alone."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_rig import UEP, request
from broker_site import OTHER
from hanging_memory import HOLD, memory_that_hangs
from process_trees import children
from twinlock_broker.endpoints import launcher, readers
from twinlock_broker.endpoints import output as outputs
from twinlock_broker.endpoints.admission import Admission, Entry
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.output import KEPT, Output, left_by_others
from twinlock_broker.endpoints.readers import Readers
from twinlock_broker.endpoints.refusals import detail
from twinlock_broker.spawner.client import SpawnerClient
from twinlock_wire import wire


@pytest.fixture
def output(tmp_path: Path) -> Output:
    """An output without a pipe yet."""
    return Output(Readers(), tmp_path, UEP, "ada")


class Holder:
    """A process that has the kernel hold its stdout's pipe, until `free` is called."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._stack = contextlib.ExitStack()
        self._memory = self._stack.enter_context(memory_that_hangs(folder))
        self._process: subprocess.Popen[bytes] | None = None

    def hold(self, writer: int) -> None:
        """Take the pipe's writing end, and hold the pipe from now on."""
        argv = [sys.executable, "-c", HOLD, str(self._memory.path)]
        self._process = subprocess.Popen(argv, stdout=writer, stderr=writer)
        os.close(writer)
        self._memory.wait_until_read()

    def free(self) -> None:
        """Let go; the process ends."""
        self._stack.close()
        if self._process is not None:
            self._process.wait(60)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Holder]:
    """One, free again after the test."""
    made = Holder(tmp_path / "fuse")
    try:
        yield made
    finally:
        made.free()


async def test_an_output_keeps_its_end_and_drives_no_terminal(output: Output) -> None:
    await print_and_finish(output, b"x" * KEPT + b"\x1b[31mred\x1b[0m\x07 \xff\r\nlast\n")
    assert output.text.endswith("red \ufffd\nlast")
    assert len(output.text) <= KEPT
    assert output.closed_at is not None


async def test_an_output_shows_no_login(output: Output) -> None:
    await print_and_finish(output, b"can't reach amqps://u:p%40w@host:443/v of https://host/a@b")
    assert output.text == "can't reach amqps://<secret>@host:443/v of https://host/a@b"


async def test_an_output_is_read_while_it_is_written(output: Output) -> None:
    writer = await output.writer()
    data = b"y" * 300_000  # more than a pipe holds
    await asyncio.wait_for(asyncio.to_thread(write_all, writer, data), 60)
    assert output.closed_at is None
    os.close(writer)
    await output.finish()
    assert output.text == "y" * KEPT


async def test_an_output_that_never_ends_holds_up_nobody(output: Output, tmp_path: Path) -> None:
    writer = await output.writer()
    writing = subprocess.Popen(["/bin/cat", "/dev/zero"], stdout=writer)
    os.close(writer)
    try:
        await asyncio.wait_for(asyncio.sleep(0.2), 60)  # its reading leaves the loop to others
        await output.finish()
        assert not left_by_others(tmp_path)
    finally:
        writing.kill()
        writing.wait()


async def test_an_output_for_which_the_disk_has_no_room_works(tmp_path: Path) -> None:
    output = Output(Readers(), tmp_path / "not a folder", UEP, "ada")
    await print_and_finish(output, b"last words")
    assert output.text == "last words"


async def test_an_output_is_listened_to_again(output: Output, tmp_path: Path) -> None:
    """A broker that was killed had begun the start, which the next one makes again: it may not have been made."""
    os.mkfifo(tmp_path / f"{UEP}.1234.output")
    first = os.open(tmp_path / f"{UEP}.1234.output", os.O_RDWR)
    resume(output, tmp_path)
    writer = await output.writer()
    write_all(first, b"from the first start, ")
    await come(output, "from the first start,")
    write_all(writer, b"from the second")
    os.close(first)
    os.close(writer)
    await output.finish()
    assert output.text == "from the first start, from the second"
    assert not left_by_others(tmp_path)


async def test_a_pipe_of_an_earlier_broker_is_open_before_its_writer_ends(output: Output, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{UEP}.1234.output")
    writer = os.open(tmp_path / f"{UEP}.1234.output", os.O_RDWR)
    write_all(writer, b"last words")
    resume(output, tmp_path)
    os.close(writer)
    await output.finish()
    assert output.text == "last words"


async def test_a_pipe_that_nobody_writes_to_any_more_has_an_end(output: Output, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / f"{UEP}.output")
    resume(output, tmp_path)
    await closed(output)


async def test_a_process_that_was_killed_is_replaced(output: Output) -> None:
    """The first one, which forks the readers; theirs go on."""
    before = {*children(os.getpid())}
    writer = await output.writer()
    (first,) = {*children(os.getpid())} - before
    os.kill(first, signal.SIGKILL)
    os.waitid(os.P_PID, first, os.WEXITED | os.WNOWAIT)
    write_all(writer, b"of the first, ")
    await come(output, "of the first,")
    os.close(writer)
    await print_and_finish(output, b"and of the second")
    assert output.text == "of the first, and of the second"


async def test_who_keeps_its_output_from_being_read_holds_up_nobody(
    output: Output, holder: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "FINISH_LIMIT", 1.0)
    holder.hold(await output.writer())
    await served(tmp_path)
    resumed = Output(Readers(), tmp_path, UEP, "ada")
    resumed.resume(left_by_others(tmp_path)[UEP])
    resumed.wait_until_open(time.monotonic() + 1)
    assert not resumed.open
    await served(tmp_path)
    await asyncio.wait_for(output.finish(), 60)
    await served(tmp_path)


async def test_an_account_has_few_outputs_that_cannot_be_read(
    holder: Holder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs the site a process, which can't be ended."""
    monkeypatch.setattr(outputs, "FINISH_LIMIT", 1.0)
    monkeypatch.setattr(launcher, "MOST_STUCK", 1)
    admission = Admission(tmp_path / "admission.json")
    await admission.block("ada", Entry("call the help desk", "root"))
    made = launcher.Launcher(SpawnerClient(tmp_path / "no socket"), {}, tmp_path, admission)
    os.mkfifo(tmp_path / f"{UEP}.1234.output")
    writer = os.open(tmp_path / f"{UEP}.1234.output", os.O_RDWR)
    ended, another = Endpoint(UEP, "ada"), Endpoint(OTHER, "ada")
    made.resume([ended])
    holder.hold(writer)
    assert await stage(made, another) == "blocked", "which comes after the question for these"
    assert ended.output is not None
    await ended.output.finish()
    assert await stage(made, another) == "unread"
    holder.free()
    async with asyncio.timeout(60):
        while await stage(made, another) != "blocked":
            await asyncio.sleep(0.01)


@contextlib.contextmanager
def stopped_child(before: set[int]) -> Iterator[None]:
    """The only child of ours that isn't one of `before` answers nobody; after the block it is gone."""
    (child,) = {*children(os.getpid())} - before
    os.kill(child, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(child, signal.SIGKILL)


async def test_a_process_that_hangs_is_the_reason_of_a_refusal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the spawner, which wasn't asked yet."""
    admission = Admission(tmp_path / "admission.json")
    await admission.block("ada", Entry("call the help desk", "root"))
    made = launcher.Launcher(SpawnerClient(tmp_path / "no socket"), {}, tmp_path, admission)
    before = {*children(os.getpid())}
    assert await stage(made, Endpoint(UEP, "ada")) == "blocked", "so the process was there, and answered"
    with stopped_child(before):
        monkeypatch.setattr(readers, "_ANSWER_LIMIT", 0.5)
        refused = await refusal(made, Endpoint(OTHER, "ada"))
    assert detail(refused) == "broker: host: [Errno 110] the process that reads outputs doesn't answer"


async def test_a_process_that_takes_no_orders_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "_ANSWER_LIMIT", 0.5)
    made, before = Readers(), {*children(os.getpid())}
    with contextlib.ExitStack() as stack:
        stack.enter_context(made.resume(tmp_path / "none"))
        stack.enter_context(stopped_child(before))
        with pytest.raises(OSError, match="the process that reads outputs doesn't answer"):
            order_without_end(made, tmp_path / "none", stack)


def order_without_end(made: Readers, path: Path, stack: contextlib.ExitStack) -> None:
    """Give orders until no more fit into the socket; `stack` closes what comes of them."""
    while True:
        stack.enter_context(made.resume(path))


async def stage(made: launcher.Launcher, endpoint: Endpoint) -> str:
    """At which stage a start is refused."""
    return (await refusal(made, endpoint)).stage


async def refusal(made: launcher.Launcher, endpoint: Endpoint) -> wire.Refused:
    """A start's refusal."""
    reply = await made.launch(endpoint, request(endpoint.user, "sleep"))
    assert isinstance(reply, wire.Refused)
    return reply


async def served(folder: Path) -> None:
    """Have another endpoint's output read."""
    other = Output(Readers(), folder, OTHER, "bob")
    writer = await other.writer()
    write_all(writer, b"here")
    await come(other, "here")
    os.close(writer)
    await asyncio.wait_for(other.finish(), 60)


def resume(output: Output, folder: Path) -> None:
    """Be a broker that starts over."""
    output.resume(left_by_others(folder)[UEP])
    output.wait_until_open(time.monotonic() + 60)


async def print_and_finish(output: Output, data: bytes) -> None:
    """Be an endpoint that prints and ends."""
    writer = await output.writer()
    write_all(writer, data)
    os.close(writer)
    await output.finish()


def write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


async def come(output: Output, text: str) -> None:
    """Wait until the text has come."""
    async with asyncio.timeout(60):
        while output.text != text:
            await asyncio.sleep(0.01)


async def closed(output: Output) -> None:
    """Wait until nothing more can come."""
    async with asyncio.timeout(60):
        while output.open:
            await asyncio.sleep(0.01)
