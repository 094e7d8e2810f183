"""What the spawner runs, for a command that asks while no broker is connected."""

import asyncio
import os
from pathlib import Path

from twinlock_wire import wire

from twinlock_broker.errors import Fatal
from twinlock_broker.spawner.connection import SpawnerSocket

_LIMIT = 10.0
"""Seconds for the answer."""


def running(path: Path, manager_id: str) -> list[wire.Child]:
    """Return the user endpoints of the manager `manager_id` that run under the spawner at `path`.

    There are none if the spawner isn't there: they end with it. Raise `Fatal` (75, 76, 77).
    """
    try:
        children = asyncio.run(_list(path))
    except (FileNotFoundError, ConnectionRefusedError):
        return []
    except (OSError, TimeoutError) as error:
        reason = getattr(error, "strerror", None) or f"no answer within {_LIMIT:.0f} s"
        raise Fatal(
            os.EX_TEMPFAIL, f"{path}: the spawner can't be asked what is running: {reason}; see its log, or stop it"
        ) from error
    except wire.WireError as error:
        raise Fatal(os.EX_PROTOCOL, f"{path}: not a spawner of this version: {error}; update both together") from error
    return [child for child in children if child.ended is None and child.name.startswith(f"uep.{manager_id}.")]


async def _list(path: Path) -> list[wire.Child]:
    """Return the spawner's table. Ends aren't acknowledged, so that the next broker hears of them.

    Raise `TimeoutError` if it takes too long.
    """
    async with asyncio.timeout(_LIMIT):
        return await _listed(path)


async def _listed(path: Path) -> list[wire.Child]:
    connection = await SpawnerSocket.connect(path)
    try:
        await connection.send(wire.List())
        children: list[wire.Child] = []
        while True:
            reply = await connection.receive()
            if isinstance(reply, wire.Children):
                children += reply.children
                if len(reply.children) < wire.MAX_PAGE:
                    return children
    finally:
        connection.close()
