"""pika's connection, with what it lacks."""

import asyncio
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

_TOGETHER = 1 << 16  # bytes; of more, what a socket doesn't take at once would be copied again and again


def parameters(url: str, port: int | None = None, silence_s: int | None = None) -> pika.URLParameters:
    """Connection parameters of a URL; `port` replaces the URL's, and after `silence_s` the peer is taken for dead.

    Raises ValueError where the URL is none.
    """
    made = pika.URLParameters(url)
    if port is not None:
        made.port = port
    if silence_s is not None:
        made.heartbeat = silence_s
    return made


class Connection(AsyncioConnection):  # type: ignore[misc]  # pika ships no types
    """Sends what is written in one turn of the loop together: pika sends each frame by itself, four for each task."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._gathered: list[bytes] = []
        super().__init__(*arguments, **keywords)

    def _adapter_emit_data(self, data: bytes) -> None:
        self._gathered.append(data)
        if len(self._gathered) == 1:
            asyncio.get_running_loop().call_soon(self._emit)

    def _emit(self) -> None:
        gathered, self._gathered = self._gathered, []
        together = sum(map(len, gathered)) <= _TOGETHER
        for data in [b"".join(gathered)] if together else gathered:
            if self._transport is not None:  # else the connection is gone, and with it what was to be sent
                super()._adapter_emit_data(data)
