"""A home of its own for each test, without an SSH agent: the client keeps its files there. And a service for some."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_rig import Manager, Service, manager, users_file
from signed_rig import make_key


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's home on the user's own computer."""
    place = tmp_path / "home"
    place.mkdir(mode=0o700)
    monkeypatch.setenv("HOME", str(place))
    monkeypatch.chdir(place)  # where functions that a test runs leave files
    for name in ("SSH_AUTH_SOCK", "SSH_ASKPASS", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    return place


@pytest.fixture
def ada(tmp_path: Path) -> Path:
    """Ada's SSH key."""
    return make_key(tmp_path / "id_ed25519")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A running service, in a folder that its RabbitMQ can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        users_file(folder / "users.yaml")
        running = Service(folder)
        running.start()
        yield running
        running.stop()


@pytest.fixture
def mep(service: Service) -> Iterator[Manager]:
    """A manager endpoint that serves everybody."""
    with manager() as agent:
        yield agent
