"""What the broker tells administrators about the manager endpoint and itself."""

import importlib.metadata
import time
from collections.abc import Callable, Mapping
from typing import Any

from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.spawner.client import SpawnerClient

Link = Callable[[], bool]
"""A function that returns whether a connection is up."""


class Head:
    """What there is to say about the manager endpoint `endpoint_id`, whose folder is called `name`."""

    def __init__(self, endpoint_id: str, name: str, spawner: SpawnerClient, launcher: Launcher) -> None:
        self._endpoint_id = endpoint_id
        self._name = name
        self._spawner = spawner
        self._launcher = launcher
        self._started = round(time.time())
        self._version = importlib.metadata.version("twinlock")
        self.links: Mapping[str, Link] = dict.fromkeys(("commands", "heartbeats"), lambda: False)
        """The connections to RabbitMQ, by their names."""

    def for_users(self) -> dict[str, Any]:
        """Return what every account may know. `started` is in seconds since 1970."""
        return {"endpoint": self._endpoint_id, "name": self._name, "started": self._started}

    def for_administrators(self) -> dict[str, Any]:
        """Return that, and in which state the broker is."""
        return self.for_users() | {
            "version": self._version,
            "spawner_connected": self._spawner.ready.is_set(),
            "amqp": {name: connected() for name, connected in self.links.items()},
            "starts": {"waiting": self._launcher.waiting},
        }
