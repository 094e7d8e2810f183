"""The endpoint's registration while it serves: renewed when RabbitMQ no longer accepts its credentials."""

import asyncio
import logging
import os
from collections.abc import Callable

from twinlock_common.offload import Offload

from twinlock_broker.compute.registration import Registration
from twinlock_broker.errors import Fatal

LIMIT = 300.0
"""Seconds for a registration; globus-sdk's own limits and retries come first."""

log = logging.getLogger(__name__)


class Renewal:
    """The endpoint's current registration.

    It is made by `register`, which is given the endpoint's known uuid, blocks, and raises `Fatal`.
    """

    def __init__(self, register: Callable[[str | None], Registration]) -> None:
        self._register = register
        self._offload = Offload("rest", 1)
        self._lock = asyncio.Lock()
        self.current: Registration
        """The newest one; not set before `first` has returned."""

    async def first(self, known: str | None) -> Registration:
        """Register at the start, as `known` or as a new endpoint. Raise `Fatal` (65, 69, 70, 75, 77)."""
        try:
            self.current = await self._offload.run(LIMIT, lambda: self._register(known))
        except TimeoutError as error:
            raise Fatal(os.EX_TEMPFAIL, f"no registration within {LIMIT:.0f} seconds; try again later") from error
        return self.current

    async def renew(self, refused: Registration) -> None:
        """Get another registration than `refused`, unless there is one already.

        If the service can't be reached now, the registration stays, and the next call tries again. Raise `Fatal` (65,
        69, 70, 77) if the service won't have the endpoint any more.
        """
        async with self._lock:  # commands and heartbeats find out one after the other
            if self.current is not refused:
                return
            log.warning("RabbitMQ refused the credentials; registering the endpoint again")
            try:
                await self.first(refused.endpoint_id)
            except Fatal as error:
                if error.status != os.EX_TEMPFAIL:
                    raise
                log.warning("could not register the endpoint again, will retry: %s", error)
