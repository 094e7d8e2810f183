"""What the service has in RabbitMQ: names, permissions, and the queue documents that clients are given.

Every endpoint has an exchange `ep.<uuid>` that only it can write, and queues `ep.<uuid>.commands` (a manager's) and
`ep.<uuid>.tasks` that only it can read. What it publishes there with the key `results` or `heartbeats` is routed to the
service's queue of that name. A delivery names the exchange that it was published to, so the service knows, and no
endpoint can feign, where a message came from. SDK users read `results.<identity uuid>.<task group uuid>`.
Nobody but the service may write the default exchange, which reaches every queue.
"""

from __future__ import annotations

import re
from typing import Any

from yarl import URL

from twinlock_service.rabbitmq.management import Management
from twinlock_service.state.endpoints import Endpoint
from twinlock_service.state.result_logins import ResultLogin

RESULTS = "service.results"
HEARTBEATS = "service.heartbeats"
RESULT_QUEUE_IDLE_MS = 7 * 24 * 3600 * 1000
"""A result queue that nobody used for so long goes; the results stay in the service's state."""

USER_CONNECTIONS, USER_CHANNELS = 100, 200
"""Of an SDK user, in all their programs: each Executor has one of both for its results."""

ENDPOINT_CONNECTIONS, ENDPOINT_CHANNELS = 20, 100
"""Of an endpoint, which needs four at most; those of one that was killed are still there for a while."""

QUEUE_BYTES = 4 * 1024**3
"""What may wait in one queue of an endpoint, or of an SDK user's results."""

# Messages of up to 10 MiB wait on the disk, not in the node's memory.
_LAZY = {"x-queue-mode": "lazy"}


def exchange(endpoint: str) -> str:
    """Return the name of an endpoint's exchange, which is also its RabbitMQ user's."""
    return f"ep.{endpoint}"


def endpoint_of(exchange_name: str) -> str | None:
    """Return the endpoint that a message came from, by the exchange that it was published to, or None."""
    prefix, _, endpoint = exchange_name.partition(".")
    return endpoint if prefix == "ep" else None


def command_queue(endpoint: str) -> str:
    """Return the name of the queue where a manager endpoint reads its commands."""
    return f"ep.{endpoint}.commands"


def task_queue(endpoint: str) -> str:
    """Return the name of the queue where a single-user or user endpoint reads its tasks."""
    return f"ep.{endpoint}.tasks"


def result_prefix(user: str) -> str:
    """Return how the names of an SDK user's result queues begin; the task group's uuid follows."""
    return f"results.{user}."


class Topology:
    """Makes things in RabbitMQ on their first use in the life of this process, so that a new node gets them again."""

    def __init__(self, management: Management, url: URL) -> None:
        """`url` is how clients reach RabbitMQ; the login in it is replaced by theirs."""
        self._management = management
        self._url = url
        self._made: set[tuple[str, str]] = set()

    async def service_queues(self) -> None:
        """Make the two queues that the service reads, and limit the size of all others."""
        await self._management.limit_queues("twinlock", r"^(ep|results)\.", QUEUE_BYTES)
        await self._management.queue(RESULTS, _LAZY)
        await self._management.queue(HEARTBEATS)

    async def endpoint(self, endpoint: Endpoint) -> None:
        """Make an endpoint's user, exchange and queues."""
        key = (endpoint.id, endpoint.password)
        if key in self._made:
            return
        name = exchange(endpoint.id)
        own = re.escape(name)
        await self._management.user(name, endpoint.password, read=rf"^{own}\.(commands|tasks)$", write=f"^{own}$")
        await self._management.limit_user(name, connections=ENDPOINT_CONNECTIONS, channels=ENDPOINT_CHANNELS)
        await self._management.exchange(name)
        await self._management.bind(name, RESULTS, "results")
        await self._management.bind(name, HEARTBEATS, "heartbeats")
        for queue in _queues(endpoint):
            await self._management.queue(queue, _LAZY)
        self._made.add(key)

    async def remove(self, endpoint: Endpoint) -> None:
        """Delete everything that an endpoint has in RabbitMQ."""
        self.forget(endpoint)
        await self._management.delete_user(exchange(endpoint.id))
        for queue in _queues(endpoint):
            await self._management.delete_queue(queue)
        await self._management.delete_exchange(exchange(endpoint.id))

    def forget(self, endpoint: Endpoint) -> None:
        """Have everything of the endpoint made again on its next use: something turned out to be missing."""
        self._made.discard((endpoint.id, endpoint.password))

    async def disconnect(self, endpoint: Endpoint) -> None:
        """Close an endpoint's connections."""
        await self._management.disconnect(exchange(endpoint.id))

    async def discard_tasks(self, endpoint: str) -> None:
        """Discard the tasks that wait for an endpoint."""
        await self._management.purge(task_queue(endpoint))

    @property
    def endpoints(self) -> set[str]:
        """The uuids of the endpoints whose users were made and not removed since, with whatever password."""
        return {name for name, _ in self._made}

    async def cut_off(self, endpoint: Endpoint) -> None:
        """Delete the endpoint's user, which closes its connections; its queues and what is in them stay."""
        self._made = {(name, password) for name, password in self._made if name != endpoint.id}
        await self._management.delete_user(exchange(endpoint.id))

    async def user(self, login: ResultLogin) -> None:
        """Make the RabbitMQ user with which an SDK user reads results."""
        if (login.name, login.password) not in self._made:
            own = re.escape(result_prefix(login.owner))
            await self._management.user(login.name, login.password, read=f"^{own}[0-9a-f-]+$", write="^$")
            await self._management.limit_user(login.name, connections=USER_CONNECTIONS, channels=USER_CHANNELS)
            self._made.add((login.name, login.password))

    async def remove_user(self, login: ResultLogin) -> None:
        """Delete the RabbitMQ user of an SDK user, which closes its connections."""
        self._made.discard((login.name, login.password))
        await self._management.delete_user(login.name)

    async def result_queue(self, user: str, group: str) -> None:
        """Make the queue for the results of one task group. It is always declared, which postpones its expiry."""
        await self._management.queue(result_prefix(user) + group, {**_LAZY, "x-expires": RESULT_QUEUE_IDLE_MS})

    def result_info(self, login: ResultLogin) -> dict[str, Any]:
        """Return what the SDK asks for: how to reach the queues with its results."""
        url = self._url.with_user(login.name).with_password(login.password)
        return {"queue_prefix": result_prefix(login.owner), "connection_url": str(url)}

    def registration_info(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return what a registering endpoint is told: its uuid and how to reach its queues."""
        url = self._endpoint_url(endpoint)
        info = {
            "endpoint_id": endpoint.id,
            "command_queue_info": {"connection_url": url, "queue": command_queue(endpoint.id)},
            "heartbeat_queue_info": self._publish_info(endpoint, HEARTBEATS, "heartbeats"),
        }
        return info if endpoint.kind == "manager" else {**info, **self.credentials(endpoint)}

    def credentials(self, endpoint: Endpoint) -> dict[str, Any]:
        """Return the `amqp_creds` of an endpoint that runs tasks."""
        return {
            "endpoint_id": endpoint.id,
            "task_queue_info": {"connection_url": self._endpoint_url(endpoint), "queue": task_queue(endpoint.id)},
            "result_queue_info": self._publish_info(endpoint, RESULTS, "results"),
            "heartbeat_queue_info": self._publish_info(endpoint, HEARTBEATS, "heartbeats"),
        }

    def _publish_info(self, endpoint: Endpoint, queue: str, key: str) -> dict[str, Any]:
        name = exchange(endpoint.id)
        properties = {"delivery_mode": 2}
        publish = {"exchange": name, "routing_key": key, "mandatory": True, "properties": properties}
        where = {"connection_url": self._endpoint_url(endpoint), "queue": queue, "exchange": name}
        return {**where, "queue_publish_kwargs": publish}

    def _endpoint_url(self, endpoint: Endpoint) -> str:
        return str(self._url.with_user(exchange(endpoint.id)).with_password(endpoint.password))


def _queues(endpoint: Endpoint) -> list[str]:
    # A single-user endpoint has both: agents of version 4 subscribe to commands in any case.
    queues = {"manager": [command_queue], "single": [command_queue, task_queue], "user": [task_queue]}
    return [queue(endpoint.id) for queue in queues[endpoint.kind]]
