"""The Compute service of a site, and the people and the login that it knows."""

import hashlib
import json
import secrets
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml

from twinlock_testbed.daemons import START_LIMIT, Daemon

PORT = 5000
"""The SDK's address of a local service is fixed."""

URL = f"http://localhost:{PORT}"
DOMAIN = "site.example"


@dataclass(frozen=True)
class Person:
    """Someone with a Globus identity."""

    username: str
    identity: str = field(default_factory=lambda: str(uuid.uuid4()))
    """A uuid."""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """The bearer token of the service."""
    linked: tuple[str, ...] = ()
    """The uuids of further identities of the same person."""

    def entry(self) -> dict[str, object]:
        """Return this person's entry in the service's users file."""
        linked = [{"id": identity, "username": f"{identity}@{DOMAIN}"} for identity in self.linked]
        now = datetime.now(UTC)
        token = {
            "sha256": hashlib.sha256(self.token.encode()).hexdigest(),
            "created": now.isoformat(),
            "expires": (now + timedelta(days=1)).isoformat(),
        }
        return {"id": self.identity, "name": self.username, "tokens": [token], "linked": linked}


@dataclass(frozen=True)
class Login:
    """The confidential client that registers a manager endpoint."""

    client_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    secret: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)


@dataclass(frozen=True)
class Service:
    """The Compute service while it runs."""

    daemon: Daemon
    state: Path
    """Its state folder."""
    people: Mapping[str, Person]
    """The users, by user name."""
    login: Login
    """The only client."""

    def amqp(self) -> dict[str, str]:
        """Return URLs with an administrator's credentials: ``url`` and ``management_url``."""
        urls: dict[str, str] = json.loads((self.state / "amqp.json").read_text())
        return urls


def private_file(path: Path, text: str, owner: str | None) -> Path:
    """Write a file that only `owner` can read."""
    path.touch(mode=0o600)
    path.write_text(text)
    if owner is not None:
        shutil.chown(path, owner)
    return path


@contextmanager
def service(prefix: Path, folder: Path, people: list[Person], login: Login, user: str | None) -> Iterator[Service]:
    """Run ``twinlock-service`` with a RabbitMQ of its own, as `user`. Raise `DaemonError` on failure."""
    state = folder / "service"
    state.mkdir(mode=0o700, parents=True)
    if user is not None:
        shutil.chown(state, user, user)
    entries = {person.username: person.entry() for person in people}
    content = {"users": entries, "clients": {login.client_id: {"secret": login.secret}}}
    users = private_file(folder / "users.yaml", yaml.safe_dump(content), user)
    argv: list[str | Path] = [
        prefix / "bin/twinlock-service",
        "--port",
        str(PORT),
        "--state",
        state,
        "--users",
        users,
        "--amqp",
        "auto",
    ]
    daemon = Daemon("twinlock-service", argv, folder / "service.log", user=user, environment={"HOME": str(state)})
    try:
        daemon.wait_for_line("twinlock-service ready", START_LIMIT)
        yield Service(daemon, state, {person.username: person for person in people}, login)
    finally:
        daemon.stop()
