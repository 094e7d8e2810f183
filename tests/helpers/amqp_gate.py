"""A way to RabbitMQ on which only so many of its frames come through: a handshake that goes so far and no further."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from types import TracebackType

from yarl import URL

_HEAD = 7
"""Bytes before a frame's payload (AMQP 0-9-1, 2.3.5): type, channel, and the payload's size in the last four."""


class Gate:
    """Carries what comes to a port of its own to the RabbitMQ at `url`; of its answers, `frames` come through.

    RabbitMQ's frames on a new connection are Start, Tune, Open-Ok, then what is asked of the channel.
    """

    def __init__(self, url: str, frames: int) -> None:
        self._to = URL(url)
        self._left = frames
        self._open = asyncio.Event()
        self._near: asyncio.StreamWriter | None = None
        self.reached = asyncio.Event()
        """Set once the next frame is held back."""
        self.gone = asyncio.Event()
        """Set once the client has closed its connection."""

    async def __aenter__(self) -> "Gate":
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        port = self._server.sockets[0].getsockname()[1]
        self.url = str(self._to.with_host("127.0.0.1").with_port(port))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()

    def release(self) -> None:
        """Let what was held back through, and all that follows."""
        self._open.set()

    def cut(self) -> None:
        """End the connection as it is."""
        if self._near is not None:
            self._near.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        self._near = near
        assert self._to.host is not None
        far_reader, far = await asyncio.open_connection(self._to.host, self._to.port)
        back = asyncio.create_task(self._carry_back(far_reader, near))
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                far.write(data)
        self.gone.set()
        back.cancel()
        far.close()
        near.close()

    async def _carry_back(self, far: asyncio.StreamReader, near: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            while True:
                head = await far.readexactly(_HEAD)
                payload = await far.readexactly(int.from_bytes(head[3:], "big") + 1)
                if self._left == 0:
                    self.reached.set()
                    await self._open.wait()
                else:
                    self._left -= 1
                near.write(head + payload)
        near.close()


@asynccontextmanager
async def no_accidents() -> AsyncIterator[None]:
    """Afterwards: nothing went wrong in a callback meanwhile, of which asyncio would only have logged a traceback."""
    loop = asyncio.get_running_loop()
    accidents: list[dict[str, object]] = []
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: accidents.append(context))
    try:
        yield
    finally:
        loop.set_exception_handler(before)
    assert accidents == []
