"""RabbitMQ's management HTTP API, as far as the service makes users, permissions, queues and exchanges with it."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

TIMEOUT = aiohttp.ClientTimeout(total=15)


class ManagementError(Exception):
    """RabbitMQ's management API can't be reached, or refused a request."""


class Management:
    """The management API of one RabbitMQ node, for one virtual host."""

    def __init__(self, session: aiohttp.ClientSession, url: URL, vhost: str) -> None:
        """`url` holds the user and password of an administrator."""
        self._session = session
        self._headers = {"Authorization": aiohttp.encode_basic_auth(url.user or "", url.password or "")}
        self._base = url.with_user(None).with_password(None).with_path("/api/")
        self._vhost = vhost
        self._administrator = url.user or ""

    async def ping(self) -> None:
        """Check that the administrator may use the virtual host.

        Raise `ManagementError` if RabbitMQ isn't reachable, or if the administrator may not use it, or not yet.
        """
        await self._call("GET", "permissions", self._vhost, self._administrator)

    async def user(self, name: str, password: str, *, read: str, write: str) -> None:
        """Make a user that may read and write what the two regular expressions match, and declare nothing."""
        await self._call("PUT", "users", name, json={"password": password, "tags": ""})
        permissions = {"configure": "^$", "write": write, "read": read}
        await self._call("PUT", "permissions", self._vhost, name, json=permissions)

    async def limit_user(self, name: str, *, connections: int, channels: int) -> None:
        """Limit a user's connections and channels at a time; RabbitMQ refuses further ones."""
        await self._call("PUT", "user-limits", name, "max-connections", json={"value": connections})
        await self._call("PUT", "user-limits", name, "max-channels", json={"value": channels})

    async def delete_user(self, name: str) -> None:
        """Delete a user, which makes RabbitMQ close its connections."""
        await self._call("DELETE", "users", name)

    async def disconnect(self, user: str) -> None:
        """Close the connections that a user has."""
        try:
            await self._call("DELETE", "connections", "username", user)
        except ManagementError:
            # One that ends by itself in the same moment makes RabbitMQ fail; what is left of them is closed now.
            await self._call("DELETE", "connections", "username", user)

    async def queue(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        """Declare a durable queue."""
        body = {"durable": True, "auto_delete": False, "arguments": arguments or {}}
        await self._call("PUT", "queues", self._vhost, name, json=body)

    async def limit_queues(self, name: str, pattern: str, most_bytes: int) -> None:
        """Limit the bytes in each queue that a regular expression matches; RabbitMQ refuses messages beyond that."""
        definition = {"max-length-bytes": most_bytes, "overflow": "reject-publish"}
        body = {"pattern": pattern, "definition": definition, "apply-to": "queues"}
        await self._call("PUT", "policies", self._vhost, name, json=body)

    async def purge(self, queue: str) -> None:
        """Discard the messages that wait in a queue."""
        await self._call("DELETE", "queues", self._vhost, queue, "contents")

    async def delete_queue(self, name: str) -> None:
        """Delete a queue and what is in it."""
        await self._call("DELETE", "queues", self._vhost, name)

    async def exchange(self, name: str) -> None:
        """Declare a durable direct exchange."""
        await self._call("PUT", "exchanges", self._vhost, name, json={"type": "direct", "durable": True})

    async def bind(self, exchange: str, queue: str, routing_key: str) -> None:
        """Route the messages with that key from the exchange to the queue."""
        body = {"routing_key": routing_key}
        await self._call("POST", "bindings", self._vhost, "e", exchange, "q", queue, json=body)

    async def delete_exchange(self, name: str) -> None:
        """Delete an exchange and its bindings."""
        await self._call("DELETE", "exchanges", self._vhost, name)

    async def _call(self, method: str, *path: str, json: dict[str, Any] | None = None) -> None:
        # Quoted here because a virtual host named "/" has to arrive as %2F.
        url = URL(str(self._base) + "/".join(quote(part, safe="") for part in path), encoded=True)
        try:
            async with self._session.request(method, url, json=json, headers=self._headers, timeout=TIMEOUT) as answer:
                gone = method == "DELETE" and answer.status == 404
                if answer.status >= 400 and not gone:
                    text = (await answer.text())[:200]
                    raise ManagementError(f"RabbitMQ's management API refused {method} {url.path}: {text}")
        except (aiohttp.ClientError, TimeoutError) as error:
            where = f"{url.host}:{url.port}"
            raise ManagementError(f"RabbitMQ's management API at {where} can't be reached: {error!r}") from None
