"""Which RabbitMQ the service uses: a private node, or the one that `--amqp` names; and where others find that out."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from twinlock_service.rabbitmq.child_process import ChildProcess
from twinlock_service.rabbitmq.private_node import private_node
from twinlock_service.state.private_files import replacing_private
from twinlock_service.users.users_file import RabbitmqEntry

MANAGEMENT = {"amqp": ("http", 15672), "amqps": ("https", 15671)}
"""Where RabbitMQ has its management API unless it is told otherwise: encrypted where the rest is."""


@dataclass(frozen=True, slots=True)
class Server:
    """A RabbitMQ."""

    url: URL
    """With an administrator's login, as `management_url` has it."""
    management_url: URL
    node: ChildProcess | None
    """The private node, for the service to watch; None where RabbitMQ is the site's."""

    @property
    def vhost(self) -> str:
        """The virtual host that is the service's."""
        return self.url.path.removeprefix("/") or "/"


@asynccontextmanager
async def private_server(state: Path) -> AsyncIterator[Server]:
    """Run a private node while the block runs. Raise `StartError` as `private_node` does."""
    async with private_node(state) as node:
        yield Server(node.url, node.management_url, node.server)


def given_server(amqp: URL, management: URL | None, login: RabbitmqEntry) -> Server:
    """Return the RabbitMQ at these URLs. Without `management`, its management API is on the same host as `amqp`."""
    scheme, port = MANAGEMENT[amqp.scheme]
    default = URL.build(scheme=scheme, host=amqp.host or "", port=port)
    url, management_url = (
        each.with_user(login.user).with_password(login.password.get_secret_value())
        for each in (amqp, management or default)
    )
    return Server(url, management_url, None)


def note_login(state: Path, server: Server) -> None:
    """Write where RabbitMQ is, with the login, into the state folder, for its owner alone."""
    with replacing_private(state / "amqp.json") as file:
        json.dump({"url": str(server.url), "management_url": str(server.management_url)}, file)
