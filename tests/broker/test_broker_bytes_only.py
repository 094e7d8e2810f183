"""File descriptors that somebody sends to the broker's sockets: to close them may take long, and holds nobody up."""

import asyncio
import contextlib
import os
import platform
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from twinlock_broker.control import bytes_only
from twinlock_broker.control.listener import Caller, listening

LINGER, LIMIT = 600, 60.0
"""Seconds that the last close of what is sent takes, and within which others are served."""

SENT = {
    "alone": ([], 0),
    "behind a line": ([b"{}\n"], 0),
    "out of band": ([], socket.MSG_OOB),
}
"""What is sent before the descriptor, and how that is sent."""


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel can't be told to refuse them."""
    monkeypatch.setattr(bytes_only, "refuse_descriptors", lambda _: None)


class Lingering:
    """A TCP connection with bytes that nobody reads."""

    def __init__(self, server: socket.socket) -> None:
        self.socket = socket.create_connection(server.getsockname())
        self._other, _ = server.accept()
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.send(b"x" * 65536)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, LINGER))

    def end(self) -> None:
        """Let the last close return at once."""
        self._other.close()


@contextlib.contextmanager
def lingering() -> Iterator[Lingering]:
    """One, which is ended with the block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        made = Lingering(server)
        try:
            yield made
        finally:
            made.end()
            made.socket.close()


def send(path: Path, passed: Lingering, before: list[bytes], flags: int) -> socket.socket:
    """Connect, and send the descriptor so that the receiver has the last one."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.fspath(path))
    for each in before:
        sock.sendall(each)
    sock.sendmsg([b"{"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", passed.socket.fileno()))], flags)
    passed.socket.close()
    with contextlib.suppress(BrokenPipeError):
        sock.sendall(b"}\n")
    return sock


async def answered(path: Path) -> bool:
    """Whether somebody else is served."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"{}\n")
    try:
        async with asyncio.timeout(LIMIT):
            return await reader.readline() == b"{}\n"
    finally:
        writer.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def echo(caller: Caller) -> None:
    """Answer each message with itself."""
    while (message := await caller.receive()) is not None:
        caller.send(message)


async def nobody(caller: Caller) -> None:
    """Read nothing of a client's first bytes."""


@pytest.mark.usefixtures("old_kernel")
@pytest.mark.parametrize(("before", "flags"), SENT.values(), ids=SENT.keys())
async def test_descriptors_hold_nobody_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: list[bytes], flags: int
) -> None:
    path = tmp_path / "sock"
    with lingering() as passed:
        async with listening(path, 0o600, echo):
            with send(path, passed, before, flags) as sock:
                assert await answered(path)
                assert await answered(path)
                closed = f"a connection of uid {os.getuid()} was closed: it sent file descriptors"
                await until(lambda: closed in caplog.text)
                with contextlib.suppress(ConnectionResetError):
                    while await asyncio.get_running_loop().run_in_executor(None, sock.recv, 100):
                        pass


@pytest.mark.usefixtures("old_kernel")
async def test_neither_do_those_that_are_never_read(tmp_path: Path) -> None:
    async def serve(caller: Caller) -> None:
        await (nobody if not served else echo)(caller)
        served.append(caller)

    served: list[Caller] = []
    path = tmp_path / "sock"
    with lingering() as passed:
        async with listening(path, 0o600, serve):
            with send(path, passed, [], 0):
                await until(lambda: bool(served))
                assert await answered(path)


@pytest.mark.usefixtures("old_kernel")
async def test_so_many_may_be_closing_and_others_then_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bytes_only, "MOST_CLOSING", 1)
    path = tmp_path / "sock"
    with lingering() as passed:
        async with listening(path, 0o600, echo):
            with send(path, passed, [], 0):
                await until(lambda: "it sent file descriptors" in caplog.text)
                assert await answered(path), "that one was accepted already, or is the last"
                await until(lambda: "no connection is accepted" in caplog.text)
                passed.end()
                assert await answered(path)


def _version() -> tuple[int, ...]:
    return tuple(int(part) for part in platform.release().split("-")[0].split(".")[:2])


@pytest.mark.skipif(_version() < (6, 16), reason="Linux can be told to refuse descriptors since 6.16")
async def test_the_kernel_refuses_them_where_it_can(tmp_path: Path) -> None:
    path = tmp_path / "sock"
    with lingering() as passed:
        async with listening(path, 0o600, echo):
            with pytest.raises(PermissionError):
                send(path, passed, [], 0)
            assert await answered(path)
