"""A service without RabbitMQ, for what needs none, and its callers' headers."""

import base64
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiohttp
from service_rig import ALICE, BOB, TOKENS, bearer, users_file
from twinlock_service.context import Context
from twinlock_service.rabbitmq.client import AmqpClient
from twinlock_service.rabbitmq.management import Management
from twinlock_service.rabbitmq.topology import Topology
from twinlock_service.state.database import open_database
from twinlock_service.users.directory import load_users
from yarl import URL

NOWHERE = "7b1f2f6e-0000-4000-8000-00000000dead"
"""A uuid that nothing has."""


@asynccontextmanager
async def context_in(folder: Path) -> AsyncIterator[Context]:
    """A service's parts; nothing listens where its RabbitMQ should be."""
    db: sqlite3.Connection
    with closing(open_database(folder / "service.sqlite")) as db:
        async with aiohttp.ClientSession() as session:
            management = Management(session, URL("http://admin:hush@127.0.0.1:1"), "/")
            topology = Topology(management, URL("amqp://admin:hush@127.0.0.1:1/v"))
            users = load_users(users_file(folder / "users.yaml"))
            yield Context(db, users, topology, AmqpClient("amqp://admin:hush@127.0.0.1:1/v"))


def basic(client: str, secret: str) -> dict[str, str]:
    """The header of a confidential client."""
    return {"Authorization": "Basic " + base64.b64encode(f"{client}:{secret}".encode()).decode()}


AS_ALICE, AS_BOB = bearer(TOKENS[ALICE]), bearer(TOKENS[BOB])
