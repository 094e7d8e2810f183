"""A running service, and both sides of it as a test plays them: an SDK user, a manager endpoint, a user endpoint."""

import hashlib
import json
import os
import random
import secrets
import socket
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pika
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient
from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result, ResultErrorDetails, Task
from globus_compute_sdk import Client, Executor
from globus_compute_sdk.sdk.client import _ComputeWebClient
from globus_compute_sdk.sdk.executor import _RESULT_WATCHERS
from globus_compute_sdk.serialize import ComputeSerializer
from globus_sdk import AccessTokenAuthorizer, ComputeClientV2, ComputeClientV3, ConfidentialAppAuthClient
from patience import SERVICE, patient_program
from pika.exceptions import AMQPError
from twinlock_testbed.daemons import Daemon

_PROGRAM = patient_program("twinlock_service", SERVICE)
_CHOSEN: set[int] = set()


def free_port() -> int:
    """A TCP port that nobody listens on, below those that the kernel gives to clients and the service to RabbitMQ.

    It may be used much later, and again and again, so nobody beside must choose it meanwhile.
    """
    for port in random.sample(range(12000, 20000), k=50):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _CHOSEN:
                _CHOSEN.add(port)
                return port
    raise LookupError("no free port")


PORT = free_port()
"""The service's in this run; 5000, where the SDK looks, may be somebody else's at the moment."""

URL = f"http://127.0.0.1:{PORT}"
START, STOP, ANSWER = 400.0, 90.0, 180.0
"""Seconds for the service to start and stop, and for a message to come."""

MANAGER_CLIENT = "7b1f2f6e-0000-4000-8000-0000000000ff"
CLIENT_SECRET = secrets.token_urlsafe(12)
TOKENS = {"alice@site.example": secrets.token_urlsafe(12), "bob@site.example": secrets.token_urlsafe(12)}
IDENTITIES = {name: str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in TOKENS}
ALICE, BOB = TOKENS


Rest = TestClient[web.Request, web.Application]
"""A client of the HTTP side alone."""


def bearer(token: str) -> dict[str, str]:
    """The header of a caller with a token."""
    return {"Authorization": f"Bearer {token}"}


def token_entry(token: str, days: float = 30) -> dict[str, str]:
    """A token in the users file: its digest, and how long it is good for."""
    now = datetime.now(UTC)
    expires = now + timedelta(days=days)
    digest = hashlib.sha256(token.encode()).hexdigest()
    return {"sha256": digest, "created": now.isoformat(), "expires": expires.isoformat()}


def users_file(path: Path, **more: object) -> Path:
    """A users file with Alice, Bob and a manager's client, and `more` sections."""
    users = {
        name: {"id": IDENTITIES[name], "tokens": [token_entry(token)], "name": name.title()}
        for name, token in TOKENS.items()
    }
    document = {"users": users, "clients": {MANAGER_CLIENT: {"secret": CLIENT_SECRET}}} | more
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(document))
    return path


class Service:
    """`twinlock-service` with a RabbitMQ of its own; may be stopped, killed and started again on the same state."""

    def __init__(self, folder: Path, port: int = PORT, user: str | None = None, arguments: Sequence[str] = ()) -> None:
        self.folder, self.port = folder, port
        self._arguments = arguments
        self.state = folder / "state"
        """Its state folder."""
        self._users = folder / "users.yaml"
        self._user = user
        self.daemon: Daemon
        """The process of the last start."""

    def start(self) -> None:
        """Start it and wait until it is ready. Raises `DaemonError`."""
        self.launch()
        self.daemon.wait_for_line(f"twinlock-service ready on http://127.0.0.1:{self.port}", START)

    def launch(self) -> None:
        """Start it."""
        argv: list[str | Path] = [*_PROGRAM, "--port", str(self.port)]
        argv += ["--state", self.state, "--users", self._users, *self._arguments]
        self.daemon = Daemon("twinlock-service", argv, self.folder / "log", user=self._user)

    def stop(self) -> int:
        """End it; gives its exit code."""
        return self.daemon.stop(STOP)

    def urls(self) -> dict[str, str]:
        """RabbitMQ and its management API, as its administrator: `url`, `management_url`."""
        return dict(json.loads((self.state / "amqp.json").read_text()))

    def processes(self) -> list[int]:
        """The pids of RabbitMQ and of what it started, by the folder that their environment names."""
        return [int(path.name) for path in Path("/proc").glob("[0-9]*") if self._mine(path)]

    def quiet(self, seconds: float) -> bool:
        """Whether RabbitMQ and all that it started end in so many seconds."""
        end = time.monotonic() + seconds
        while self.processes():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def owners(self) -> set[int]:
        """The uids that they run under. RabbitMQ starts some that end at once, to look at its disk."""
        found = set()
        for pid in self.processes():
            with suppress(OSError):
                found.add(os.stat(f"/proc/{pid}").st_uid)
        return found

    def _mine(self, process: Path) -> bool:
        try:
            return f"RABBITMQ_BASE={self.state}".encode() in (process / "environ").read_bytes()
        except OSError:
            return False


def sdk_client(who: str) -> Client:
    """The official SDK, logged in as Alice or Bob."""
    return sdk_with(TOKENS[who])


def sdk_with(token: str) -> Client:
    """The official SDK with a token, and pointed at the test's service: its own setting knows port 5000 only."""
    authorizer = AccessTokenAuthorizer(token)
    client = Client(local_compute_services=True, authorizer=authorizer, do_version_check=False)
    # The SDK has no setting for the port of a local service.
    client._compute_web_client = _ComputeWebClient(base_url=URL, authorizer=authorizer)  # noqa: SLF001
    client.version_check()
    return client


def end_sdk() -> None:
    """Ends the SDK's threads, which else wait for more results until the process ends, and what it has in common.

    Executors share the last task group of the process, which the next test's service doesn't know.
    """
    for watcher in list(_RESULT_WATCHERS.values()):
        watcher.shutdown(wait=True, cancel_futures=True)
    Executor._default_task_group_id = None  # noqa: SLF001 - the SDK keeps it for the process


def manager_clients() -> tuple[ComputeClientV2, ComputeClientV3]:
    """globus-sdk as a manager endpoint uses it: logged in with a client's secret."""
    login = ConfidentialAppAuthClient(MANAGER_CLIENT, CLIENT_SECRET, base_url=URL)
    tokens = login.oauth2_client_credentials_tokens(requested_scopes=ComputeClientV3.scopes.all)
    authorizer = AccessTokenAuthorizer(tokens.by_resource_server["funcx_service"]["access_token"])
    return tuple(kind(base_url=URL, authorizer=authorizer) for kind in (ComputeClientV2, ComputeClientV3))  # type: ignore[return-value]  # a pair


def register(**fields: Any) -> dict[str, Any]:
    """Registers a manager endpoint that serves everybody; gives the service's answer."""
    registration = {"endpoint_name": "mep", "multi_user": True, "public": True, **fields}
    return dict(manager_clients()[1].register_endpoint(registration).data)


def without_heartbeats(url: str) -> pika.URLParameters:
    """The parameters of a connection on which nobody sends any while a test waits for something else."""
    parameters = pika.URLParameters(url)
    parameters.heartbeat = 0
    return parameters


class Agent:
    """An endpoint's side of RabbitMQ, with the credentials that it was given."""

    def __init__(self, credentials: Mapping[str, Any]) -> None:
        self.id = credentials["endpoint_id"]
        """The endpoint's uuid."""
        self.credentials = credentials
        """The service's `amqp_creds`, or its answer to a registration."""
        url = credentials["heartbeat_queue_info"]["connection_url"]
        self._connection = pika.BlockingConnection(without_heartbeats(url))
        self.channel = self._connection.channel()
        """Publishes with confirms."""
        self.channel.confirm_delivery()

    def close(self) -> None:
        """Ends the connection, if RabbitMQ has not done so."""
        with suppress(AMQPError):
            self._connection.close()

    def heartbeat(self, **state: Any) -> None:
        """Sends a status report."""
        report = EPStatusReport(endpoint_id=self.id, global_state=state, task_statuses={})
        self.publish("heartbeat_queue_info", report)

    def publish(self, info: str, message: Any, **instead: Any) -> None:
        """Publishes as the official agent does: declares passively, then with confirms and `mandatory`."""
        where = self.credentials[info]
        keywords = {**where["queue_publish_kwargs"], **instead}
        self.channel.exchange_declare(where["exchange"], passive=True)
        self.channel.queue_declare(where["queue"], passive=True)
        properties = pika.BasicProperties(**keywords.pop("properties"))
        self.channel.basic_publish(body=messagepack.pack(message), properties=properties, **keywords)

    def receive(self, queue: str) -> tuple[pika.BasicProperties, bytes]:
        """The next message of a queue, acknowledged."""
        for method, properties, body in self.channel.consume(queue, inactivity_timeout=ANSWER):
            if method is not None:
                self.channel.basic_ack(method.delivery_tag)
                self.channel.cancel()
                return properties, body
            break
        raise TimeoutError(f"nothing came to {queue}")


class Manager(Agent):
    """A manager endpoint that reads its commands."""

    def __init__(self, registration: Mapping[str, Any]) -> None:
        super().__init__(registration)
        self.queue = registration["command_queue_info"]["queue"]
        """The name of the queue of its commands."""

    def command(self) -> tuple[pika.BasicProperties, dict[str, Any]]:
        """The next command."""
        properties, body = self.receive(self.queue)
        return properties, json.loads(body)

    def user_endpoint(self) -> "UserEndpoint":
        """Starts what the next command asks for."""
        return UserEndpoint(self.command()[1]["kwargs"]["amqp_creds"])


class UserEndpoint(Agent):
    """An endpoint that runs tasks, one at a time and in the test's own process."""

    def next_task(self) -> tuple[dict[str, Any], Task]:
        """The headers and the message of the next task."""
        properties, body = self.receive(self.credentials["task_queue_info"]["queue"])
        return properties.headers, messagepack.unpack(body)

    def run(self, task: Task) -> None:
        """Runs a task and sends its result."""
        serializer = ComputeSerializer()
        function, args, kwargs = serializer.unpack_and_deserialize(task.task_buffer)
        self.send(Result(task_id=task.task_id, data=serializer.serialize(function(*args, **kwargs))))

    def send(self, result: Result) -> None:
        """Sends a result."""
        self.publish("result_queue_info", result)

    def fail(self, task: Task, text: str) -> None:
        """Sends the result of a task that raised."""
        details = ResultErrorDetails(code="RemoteExecutionError", user_message="it raised")
        self.send(Result(task_id=task.task_id, data=text, error_details=details))

    def notice(self, text: str) -> None:
        """Says that it could not start."""
        self.heartbeat(error=text, heartbeat_period=3)


@contextmanager
def manager(**fields: Any) -> Iterator[Manager]:
    """A manager endpoint that has just registered."""
    agent = Manager(register(**fields))
    try:
        yield agent
    finally:
        agent.close()
