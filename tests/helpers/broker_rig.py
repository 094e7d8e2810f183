"""Endpoint folders, commands as the service sends them, and a record of what users are told."""

import asyncio
import dataclasses
import json
import os
import pwd
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spawner_rig import uep
from twinlock_broker.compute.command import Credentials, Delivery, credentials, new_id
from twinlock_broker.config.folder import Folder, open_folder
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering.document import Document

MANAGER = "11111111-2222-4333-8444-555555555555"
UEP = "99999999-8888-4777-8666-555555555555"
ALICE = "7b1f2f6e-0000-4000-8000-000000000001"

NO_POLICY = ("--policy", "/no-such-folder/spawner.toml")
"""For a command that would read the host's, which isn't the test's and is there where the packages are."""

TEMPLATE = """\
engine:
  type: GlobusComputeEngine
  provider:
    type: LocalProvider
    account: {{ account_id }}
    walltime: {{ walltime|default("00:30:00") }}
"""


def make_folder(path: Path, config: str = "", template: str = TEMPLATE, **files: str) -> Folder:
    """An endpoint's folder as the agent keeps it; `files` are further ones, with __ for the dot in their names."""
    path.mkdir(exist_ok=True)
    (path / "config.yaml").write_text(config)
    (path / "user_config_template.yaml.j2").write_text(template)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(text)
    return open_folder(path)


def amqp_creds(
    url: str = "amqp://ep:hush@127.0.0.1:1/vhost", exchange: str = "ep", key: str = "beats"
) -> dict[str, Any]:
    """The credentials in a command."""
    kwargs = {"exchange": exchange, "routing_key": key, "mandatory": True, "properties": {"delivery_mode": 2}}
    heartbeat = {"connection_url": url, "queue": "beats", "exchange": exchange, "queue_publish_kwargs": kwargs}
    tasks = {"connection_url": url, "queue": "tasks"}
    return {
        "endpoint_id": UEP,
        "task_queue_info": tasks,
        "result_queue_info": heartbeat,
        "heartbeat_queue_info": heartbeat,
    }


def identity(sub: str = ALICE, username: str = "alice@site.example") -> dict[str, Any]:
    """One of an identity set."""
    texts = {"email": username, "name": "Alice", "organization": "Site", "identity_provider_display_name": "Site"}
    rest = {"identity_provider": MANAGER, "last_authentication": None, "identity_type": "login", "status": "used"}
    return {"sub": sub, "id": sub, "username": username} | texts | rest


def message(**changes: Any) -> dict[str, Any]:
    """A start command; `changes` replace fields of kwargs."""
    kwargs = {
        "name": f"uep.{MANAGER}.{UEP}",
        "user_opts": {"account_id": "phys-1"},
        "user_runtime": {"globus_compute_sdk_version": "4.19.0", "python": {"version": "3.11.2"}},
        "amqp_creds": amqp_creds(),
    }
    return {
        "command": "cmd_start_endpoint",
        "args": [],
        "kwargs": kwargs | changes,
        "globus_username": "alice@site.example",
        "globus_effective_identity": ALICE,
        "globus_identity_set": [identity()],
    }


def delivery(body: Any, age: float = 0) -> Delivery:
    """It, as RabbitMQ delivers it; sent `age` seconds ago."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Delivery("application/json", round(time.time() - age), text)


def own_credentials() -> Credentials:
    """The user endpoint's credentials."""
    return credentials(message(), None)


def request(user: str, program: str, config: str = "engine: {type: X}") -> StartRequest:
    """What comes out of the checks."""
    found = own_credentials()
    document = Document(found.amqp, config, Match(user), None, {"GC_X": "1"}, "ada@uni.example")
    return StartRequest(f"uep.{MANAGER}.{UEP}", user, program, found, document, new_id())


def numbered(number: int, user: str) -> StartRequest:
    """A start of the user endpoint `number`, which sleeps."""
    made = request(user, "sleep")
    own = dataclasses.replace(made.credentials, endpoint_id=uep(number))
    return dataclasses.replace(made, name=f"uep.{MANAGER}.{uep(number)}", credentials=own)


def endpoint_user() -> str:
    """An account that a spawner which this test started can use."""
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name


_NEXT_STEP = re.compile(r"[Ss]ubmit|[Ss]horten|user_endpoint_config|administrator")
_HOST_PATH = re.compile(r"(?<![\w.:/])/(bin|etc|home|opt|root|run|srv|tmp|usr|var)\b")


def check_notice(text: str) -> None:
    """What each text for a user has to be: it says what to do, and neither a path of the host nor a secret.

    What an endpoint printed is its own.
    """
    ours = text.partition("It printed:")[0]
    assert _NEXT_STEP.search(ours) or ours != text, f"no next step: {text}"
    assert not _HOST_PATH.search(ours), f"a path of the host: {text}"
    assert "hush" not in text, f"a secret: {text}"
    assert len(text) < 6000, "it is cut off on its way"


@dataclass
class Told:
    """What users were told. `send` stands where `Notices.send` does."""

    notices: list[tuple[str, str]] = field(default_factory=list)
    """A text for a user and a detail for the log, for each notice."""
    commands: list[str] = field(default_factory=list)
    """The command's id, for each notice."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by each notice."""

    async def send(self, found: Credentials, text: str, detail: str = "", command: str = "") -> None:
        """Record it."""
        assert found.endpoint_id == UEP
        check_notice(text)
        self.notices.append((text, detail))
        self.commands.append(command)
        self.arrived.set()

    async def next(self) -> str:
        """The text of the next notice, awaited for a minute at most."""
        await asyncio.wait_for(self.arrived.wait(), 60)
        self.arrived.clear()
        return self.notices[-1][0]
