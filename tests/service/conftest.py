"""A service for the tests that need a real one, a folder that its RabbitMQ can reach, and the HTTP side alone."""

import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer
from rest_rig import context_in
from service_rig import Manager, Rest, Service, manager, users_file
from twinlock_service.context import Context
from twinlock_service.http_server.app import make_app


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
    async with context_in(tmp_path) as made:
        yield made


@pytest.fixture
async def rest(context: Context) -> AsyncIterator[Rest]:
    """A client of the service."""
    async with TestClient(TestServer(make_app(context))) as client:
        yield client
