"""A service for the tests that need a real one, and a folder that its RabbitMQ can reach."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_rig import Manager, Service, manager, users_file


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
