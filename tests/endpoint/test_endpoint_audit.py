"""Audit records on their way to a manager endpoint that takes its time."""

import asyncio
import json
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from endpoint_rig import LIMIT_S
from twinlock_endpoint.manager.audit import Audit
from twinlock_endpoint.manager.control import Control

TASKS = 20_000
"""Their records are more than what may wait to be sent."""


async def test_records_that_the_manager_takes_slowly_are_all_written(tmp_path: Path) -> None:
    read = asyncio.Event()

    async def confirm(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read.wait()
        while line := await reader.readline():
            writer.write(json.dumps({"type": "audited", "number": json.loads(line)["number"]}).encode() + b"\n")
        writer.close()

    written: list[int] = []
    connected = asyncio.Event()
    # Not by `async with`, whose end waits for connections since Python 3.12: this one stays as long as its process.
    server = await asyncio.start_unix_server(confirm, tmp_path / "control.sock")
    audit = Audit(lambda message: control.send(message))
    control = Control(str(tmp_path / "control.sock"), {"audited": audit.audited}, connected.set)
    running = asyncio.create_task(control.run())
    await asyncio.wait_for(connected.wait(), LIMIT_S)
    for number in range(TASKS):
        task = f"{number:036}"
        audit.write(task, task, "RECEIVED", "EXEC_START", written=partial(written.append, number))
    read.set()
    await audit.drain(LIMIT_S)
    running.cancel()
    await asyncio.wait((running,))
    server.close()
    assert written == list(range(TASKS))


async def test_a_socket_of_another_account_gets_nothing(tmp_path: Path) -> None:
    """Who can't be the manager endpoint is neither listened to nor told anything."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        said = b""
        with suppress(ConnectionError):  # it hangs up without reading
            writer.write(b'{"type": "end", "reason": "none"}\n')
            said = await reader.read()
        heard.put_nowait(said)
        writer.close()

    server = await asyncio.start_unix_server(listen, tmp_path / "control.sock")
    path = str(tmp_path / "control.sock")
    ends: list[object] = []
    stranger = Control(path, {"end": ends.append}, lambda: ends.append("connected"), os.getuid() + 1)
    running = asyncio.create_task(stranger.run())
    assert await asyncio.wait_for(heard.get(), LIMIT_S) == b""
    running.cancel()
    manager = Control(path, {"end": ends.append}, lambda: None, os.getuid())
    again = asyncio.create_task(manager.run())
    async with asyncio.timeout(LIMIT_S):
        while not ends:
            await asyncio.sleep(0)
    again.cancel()
    await asyncio.wait((running, again))
    assert ends == [{"type": "end", "reason": "none"}]
    server.close()
