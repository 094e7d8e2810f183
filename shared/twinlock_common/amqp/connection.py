"""pika's connection on asyncio, with fewer and larger writes."""

import asyncio
from typing import Any

import pika
from pika.adapters.asyncio_connection import AsyncioConnection

_TOGETHER = 1 << 16  # bytes; a larger piece would be copied again whenever a socket doesn't take it at once


def parameters(url: str, port: int | None = None, silence_s: int | None = None) -> pika.URLParameters:
    """Return the connection parameters in a URL. Raise `ValueError` if it isn't a valid one.

    `port` replaces the URL's port. After `silence_s` seconds without a sign of life the other side is considered dead.
    """
    made = pika.URLParameters(url)
    if port is not None:
        made.port = port
    if silence_s is not None:
        made.heartbeat = silence_s
    return made


class Connection(AsyncioConnection):  # type: ignore[misc]  # pika ships no types
    """A connection that sends together what is written in one turn of the loop.

    pika by itself sends each frame on its own, four for each task.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        self._gathered: list[bytes] = []
        super().__init__(*arguments, **keywords)

    def send_encoded(self, frames: bytes) -> None:
        """Send frames that are encoded already, for which pika has no public method."""
        self._output_marshaled_frames([frames])

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
