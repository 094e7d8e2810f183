"""A host with an endpoint in verified mode: root's files, the key of its user, and work that is signed by it."""

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from endpoint_rig import Queues, Running, endpoint_name, run
from endpoint_tasks import double
from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import Task as Message
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from nacl.signing import SigningKey
from signed_rig import HOUR, delegated, keygen, make_key, public, sign
from twinlock_signed import delegation, result, result_key, task
from twinlock_signed.delegation import NAMESPACE
from twinlock_signed.dsse import public_half
from twinlock_signed.statement import digest
from twinlock_signed.task import Task

MANAGER = str(uuid.UUID(int=1))
"""As in `endpoint_name`."""
SITE = "cluster.example.org"
USER = f"nobody@{SITE}"
LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  address: 127.0.0.1
  max_retries_on_system_failure: {{ retries | default(0) }}
  provider: {type: LocalProvider, max_blocks: 1}
heartbeat_period: 5
"""
"""A template whose tasks run in a process of Parsl's, with an option for how often they are tried again."""

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 2}\nheartbeat_period: 5\n"

OTHER = "99999999-2222-4333-8444-555555555555"
"""A uuid of something else: another manager endpoint, another function."""

Envelope = tuple[str, str, str, str]


def buffer(function: Callable[..., Any]) -> str:
    """A function as the SDK packs its source."""
    packed: str = ComputeSerializer(strategy_code=PureSourceTextInspect()).serialize(function)
    return packed


@dataclass
class Session:
    """What the user has signed for a while, and the key that signs tasks."""

    delegation: str
    signature: str
    key: SigningKey
    number: int = 0
    """That of the next task."""

    def task(self, function: Callable[..., Any], *args: Any, key: SigningKey | None = None, **fields: Any) -> Envelope:
        """The envelope of a call; `fields` are those of the statement, and `key` may be another one's."""
        now, serializer = int(time.time()), ComputeSerializer()
        whole = {
            "delegation": digest(self.delegation.encode()),
            "number": self.number,
            "issued": now,
            "expires": now + HOUR,
            "resource_specification": {},
            "result_serializers": [],
            "function": buffer(function),
            "args": serializer.serialize(args),
            "kwargs": serializer.serialize({}),
        }
        self.number += 1
        statement = task.write(Task(**whole | fields))
        return (self.delegation, self.signature, statement.decode(), task.sign(statement, key or self.key))


@dataclass
class Host:
    """Root's folder with all that `verified.toml` names."""

    folder: Path
    url: str
    """RabbitMQ's."""
    keys: dict[str, Path] = field(default_factory=dict)
    """The user's SSH key, and that of somebody whom the site doesn't know."""

    def __post_init__(self) -> None:
        self.folder.chmod(0o755)
        (self.folder / "endpoint").mkdir(mode=0o755)
        self.keys = {name: make_key(self.folder / name) for name in ("user", "stranger")}
        self.write("signers", f"nobody {public(self.keys['user'])}\n")
        self.write("endpoint/user_config_template.yaml.j2", THREADS)
        self.configure()

    def write(self, name: str, text: str) -> Path:
        """Write a file of root's."""
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def configure(self, **values: Any) -> Path:
        """Write `verified.toml`, with these values in place of the usual ones."""
        address = self.url.rpartition("@")[2].partition("/")[0]
        whole = {
            "manager": MANAGER,
            "site": SITE,
            "endpoint_dir": str(self.folder / "endpoint"),
            "control": str(self.folder / "control.sock"),
            "broker_uid": os.getuid(),
            "amqp_hosts": [address],
            "signers": [str(self.folder / "signers")],
        }
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in (whole | values).items())
        return self.write("verified.toml", text)

    def session(self, by: str = "user", namespace: str = NAMESPACE, **fields: Any) -> Session:
        """A delegation by one of the keys, with other `fields` where they are given."""
        key = SigningKey.generate()
        usual = {"account": USER, "manager": MANAGER, "id": uuid.uuid4().hex, "user_endpoint_config": {}}
        statement = delegation.write(delegated(key, **usual | fields))
        return Session(statement.decode(), sign(self.keys[by], statement, namespace).decode(), key)

    def fingerprint(self, name: str) -> str:
        """That of one of the keys."""
        return keygen("-l", "-f", f"{self.keys[name]}.pub").decode().split()[1]

    def digest(self, function: Callable[..., Any]) -> str:
        """The SHA-256 of a function, as root lists those that are allowed."""
        return digest(buffer(function).encode())

    def start(self, home: Path, queues: Queues, **document: Any) -> Running:
        """Start an endpoint in verified mode, with these entries in its start document."""
        told = {"amqp_creds": queues.creds(), "config": "", "ep_info": {}, **document}
        arguments = ("--verified", str(self.folder / "verified.toml"), endpoint_name(queues))
        return run(home, queues, json.dumps(told).encode(), *arguments)


def stub() -> str:
    """The function that the service knows, whose arguments are the envelope."""
    return "this endpoint doesn't verify signed work"


def body(task_id: str, texts: object) -> bytes:
    """The message of a task with these texts as its arguments."""
    return message(task_id, f"11\n{json.dumps(texts)}")


def message(task_id: str, arguments: str) -> bytes:
    """The message of a task with this buffer of arguments."""
    buffers = ComputeSerializer().pack_buffers([buffer(stub), arguments, "11\n{}"])
    packed: bytes = pack(Message(task_id=task_id, task_buffer=buffers))
    return packed


def submit(queues: Queues, texts: object, task_id: str | None = None) -> str:
    """Publish a task with this envelope; its id."""
    made = task_id or str(uuid.uuid4())
    queues.publish(body(made, texts), task_uuid=made)
    return made


def answer(home: Path, queues: Queues, task_id: str, envelope: Envelope) -> Any:
    """What the function returned, in a result that the account has signed for this task. RuntimeError for a failure."""
    statement, signature = result.unpack(queues.result(task_id).data)
    key = _key(home)
    found = result.verify(statement, signature, key, MANAGER, digest(envelope[2].encode()))
    if not found.success:
        raise RuntimeError(found.data)
    return ComputeSerializer().deserialize(found.data)


def _key(home: Path) -> str:
    """The public half of the account's key; root may read the file but doesn't own it."""
    path = home / result_key.PLACE[2:]
    owner = path.stat().st_uid
    os.seteuid(owner)
    try:
        return public_half(result_key.load(path))
    finally:
        os.seteuid(0)


def works(queues: Queues, home: Path, host: Host, session: Session | None = None) -> None:
    """The endpoint still serves its user."""
    envelope = (session or host.session()).task(double, 1)
    assert answer(home, queues, submit(queues, envelope), envelope) == 2


def refusal(queues: Queues, task_id: str) -> str:
    """Why a task was refused, in plain words."""
    refused = queues.result(task_id)
    assert refused.error_details is not None, refused.data
    return str(refused.data)
