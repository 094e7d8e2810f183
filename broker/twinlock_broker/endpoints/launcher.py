"""The way in which the spawner is asked for a start: document sealed, output's pipe made, the user's turn awaited."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from twinlock_common.document import Entries
from twinlock_common.offload import Offload
from twinlock_wire import wire

from twinlock_broker import metrics
from twinlock_broker.config.policies import Mode
from twinlock_broker.endpoints.admission import Admission
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.output import OPEN_LIMIT, Output, left_by_others
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.readers import MOST_STUCK, UNREAD, Readers, remove
from twinlock_broker.endpoints.start_queue import StartQueue
from twinlock_broker.spawner.client import SpawnerClient

_LOOK_LIMIT = 2.0
"""Seconds for reading the policy; without it the mode isn't known, which holds up no start."""

HOST = "host"
"""The stage of a refusal because the broker couldn't make what a start needs."""


class Launcher:
    """The starts that `spawner` is asked for.

    `told` is what every endpoint's document says besides, see `Document.seal`. The pipes of the endpoints' first output
    are in the folder `outputs`. Without an `admission` everybody is let in. `mode` returns the mode of a program, and
    may block.
    """

    def __init__(
        self,
        spawner: SpawnerClient,
        told: Entries,
        outputs: Path,
        admission: Admission | None = None,
        mode: Callable[[str], Mode | None] = lambda program: None,
    ) -> None:
        self._spawner = spawner
        self._admission = admission
        self._told = told
        self._outputs = outputs
        self._readers = Readers()
        self._queue = StartQueue()
        self._mode = mode
        self._looking = Offload("policy", 1)

    @property
    def waiting(self) -> int:
        """How many starts wait because of the spawner's rate limits."""
        return self._queue.waiting

    def resume(self, endpoints: Iterable[Endpoint]) -> None:
        """Listen again to what `endpoints`, which an earlier broker started, print while they start.

        Blocks until their pipes are open, for `OPEN_LIMIT` at most.
        """
        known = {endpoint.id: endpoint for endpoint in endpoints}
        outputs = []
        for endpoint_id, paths in left_by_others(self._outputs).items():
            if endpoint_id in known:
                output = known[endpoint_id].output = self._output(known[endpoint_id])
                output.resume(paths)
                outputs.append(output)
            else:
                for path in paths:
                    remove(path)
        deadline = time.monotonic() + OPEN_LIMIT
        for output in outputs:
            output.wait_until_open(deadline)

    async def launch(self, endpoint: Endpoint, request: StartRequest) -> wire.Spawned | wire.Refused:
        """Ask for the start `request` and return the spawner's answer; if there is none, a refusal that says why.

        Sets the endpoint's output and mode.
        """
        endpoint.mode, endpoint.signed = await self._mode_of(request.program), None
        if self._readers.stuck(request.user) >= MOST_STUCK:
            return wire.Refused(request.id, UNREAD, f"{MOST_STUCK} outputs of earlier endpoints can't be read")
        spawn = wire.Spawn(request.id, request.user, request.name, request.program, request.command)
        try:
            with contextlib.ExitStack() as stack:
                if endpoint.output is None or not endpoint.output.open:
                    endpoint.output = self._output(endpoint)
                writer = await endpoint.output.writer()
                stack.callback(os.close, writer)
                told = self._told | {"restarted": endpoint.restarted}
                document = request.document.seal(self._spawner.pid(), told, request.command)
                stack.callback(os.close, document)
                fds = document, writer
                reply = await self._queue.ask(request.user, lambda: self._ask(endpoint, spawn, fds))
        except (OSError, wire.WireError) as error:
            reply = wire.Refused(request.id, HOST, str(error))
        if isinstance(reply, wire.Refused) and endpoint.output is not None:
            await endpoint.output.finish()
        return reply

    async def stop(self, endpoint: Endpoint) -> None:
        """Ask for the endpoint's end. If the spawner is away, nothing happens."""
        await self._spawner.signal(endpoint.id, "TERM")

    def refusal(self, endpoint: Endpoint, has_tasks: bool = False) -> wire.Refused | None:
        """Return why the administrator has nothing started for the endpoint's user; None if it may start."""
        if self._admission is None:
            return None
        return self._admission.refusal(endpoint.id, endpoint.user, has_tasks)

    async def _mode_of(self, program: str) -> Mode | None:
        with contextlib.suppress(TimeoutError):
            return await self._looking.run(_LOOK_LIMIT, lambda: self._mode(program))
        return None

    async def _ask(self, endpoint: Endpoint, spawn: wire.Spawn, fds: Sequence[int]) -> wire.Spawned | wire.Refused:
        """Ask the spawner, unless the administrator has forbidden the start while it waited for its turn."""
        refusal = self.refusal(endpoint, endpoint.has_unfinished_tasks)
        if refusal is not None:
            return refusal
        try:
            with metrics.SPAWN.time():
                return await self._spawner.spawn(spawn, fds)
        except TimeoutError:
            return wire.Refused(spawn.id, "unanswered", "no answer in time")

    def _output(self, endpoint: Endpoint) -> Output:
        return Output(self._readers, self._outputs, endpoint.id, endpoint.user)
