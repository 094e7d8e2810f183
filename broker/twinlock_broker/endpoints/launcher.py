"""A start, as the spawner is asked for it: the document sealed, the output's pipe made, the user's turn awaited."""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from twinlock_shared import wire

from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.output import Output
from twinlock_broker.endpoints.start import StartRequest
from twinlock_broker.endpoints.turns import Turns
from twinlock_broker.spawner.client import SpawnerClient


class Launcher:
    """Asks `spawner` for starts. `told` is what every endpoint's document says besides, see `Document.seal`."""

    def __init__(self, spawner: SpawnerClient, told: Mapping[str, Any]) -> None:
        self._spawner = spawner
        self._told = dict(told)
        self._turns = Turns()

    async def launch(self, endpoint: Endpoint, request: StartRequest) -> wire.Spawned | wire.Refused:
        """The spawner's answer to `request`; where there is none, a refusal that says why. Sets the output."""
        spawn = wire.Spawn(request.id, request.user, request.name, request.program)
        try:
            with contextlib.ExitStack() as stack:
                endpoint.output = Output()
                stack.callback(endpoint.output.close_writer)
                document = request.document.seal(self._spawner.pid(), self._told | {"restarted": endpoint.restarted})
                stack.callback(os.close, document)
                fds = document, endpoint.output.writer
                reply = await self._turns.take(request.user, lambda: self._spawner.spawn(spawn, fds))
        except TimeoutError:
            reply = wire.Refused(request.id, "unanswered", "no answer in time")
        except (OSError, wire.WireError) as error:
            reply = wire.Refused(request.id, "host", str(error))
        if isinstance(reply, wire.Refused) and endpoint.output is not None:
            endpoint.output.finish()
        return reply

    async def stop(self, endpoint: Endpoint) -> None:
        """Ask for its end; where the spawner is away, nothing happens."""
        await self._spawner.signal(endpoint.id, "TERM")
