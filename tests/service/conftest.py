"""A service for the tests that need a real one, a folder that its RabbitMQ can reach, and the HTTP side alone."""

import sqlite3
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import aiohttp
import pytest
from aiohttp.test_utils import TestClient, TestServer
from service_rig import Manager, Rest, Service, manager, users_file
from twinlock_service.amqp import Amqp
from twinlock_service.context import Context
from twinlock_service.database import open_database
from twinlock_service.management import Management
from twinlock_service.topology import Topology
from twinlock_service.users import load_users
from twinlock_service.web import make_app
from yarl import URL


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def service(folder: Path) -> Iterator[Service]:
    """A running service."""
    users_file(folder / "users.yaml")
    running = Service(folder)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def running(service: Service) -> Service:
    """The service, started again if a test before has ended it."""
    if not service.daemon.alive():
        service.start()
    return service


@pytest.fixture
def mep(service: Service) -> Iterator[Manager]:
    """A manager endpoint that serves everybody."""
    with manager() as agent:
        yield agent


@pytest.fixture
async def context(tmp_path: Path) -> AsyncIterator[Context]:
    """A service's parts; nothing listens where its RabbitMQ should be."""
    db: sqlite3.Connection
    with closing(open_database(tmp_path / "service.sqlite")) as db:
        async with aiohttp.ClientSession() as session:
            management = Management(session, URL("http://admin:hush@127.0.0.1:1"), "/")
            topology = Topology(management, URL("amqp://admin:hush@127.0.0.1:1/v"))
            users = load_users(users_file(tmp_path / "users.yaml"))
            yield Context(db, users, topology, Amqp("amqp://admin:hush@127.0.0.1:1/v"))


@pytest.fixture
async def rest(context: Context) -> AsyncIterator[Rest]:
    """A client of the service."""
    async with TestClient(TestServer(make_app(context))) as client:
        yield client
