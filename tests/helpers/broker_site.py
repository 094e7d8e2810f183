"""A supervisor with its sockets, in the test's own process, and endpoints that do as their configuration says."""

import asyncio
import contextlib
import json
import logging
import os
import pwd
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from broker_rig import MANAGER, UEP, Told, amqp_creds, endpoint_user, message, request
from spawner_rig import Spawner
from twinlock_broker.audit import AuditLog
from twinlock_broker.compute.command import credentials
from twinlock_broker.config.policies import Mode
from twinlock_broker.control.admin import Admin
from twinlock_broker.control.canary import CanaryReports
from twinlock_broker.control.details import Details
from twinlock_broker.control.head import Head
from twinlock_broker.control.listener import listening
from twinlock_broker.control.orders import Orders
from twinlock_broker.control.readers import Readers
from twinlock_broker.control.sessions import Sessions
from twinlock_broker.control.users import Users
from twinlock_broker.endpoints.admission import Admission
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.pipeline import StartRequest
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.logs import Recent
from twinlock_broker.spawner.client import SpawnerClient
from twinlock_common.document import Entries

# An endpoint that says what its configuration holds, a line a message, and tells the length of each answer.
CALLER = """
import json, socket, sys
document = json.load(sys.stdin)
sock = socket.socket(socket.AF_UNIX)
sock.connect(document["control"])
sock.sendall(document["config"].encode())
for line in sock.makefile():
    answer = json.loads(line)
    user = answer.get("amqp_creds", {}).get("task_queue_info", {}).get("queue")
    figures = {answer["type"]: len(line), "number": answer.get("number", 0), "queue_length": len(user or "")}
    sock.sendall(json.dumps({"type": "figures", "figures": figures}).encode() + b"\\n")
"""

# An endpoint that connects again whenever its connection ends, and sends a line of its configuration each time. "+" in
# a line ends a message, "hang up" has the endpoint hang up. What a broker that ended may not have read is sent again.
RETURNING = """
import json, socket, sys, time
document = json.load(sys.stdin)
def tell(line):
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(document["control"])
        sock.sendall(line.replace("+", "\\n").encode() + b"\\n")
        if "hang up" in line:
            sock.shutdown(socket.SHUT_WR)
        while sock.recv(1000):
            pass
    except OSError:
        time.sleep(0.05)
        return False
    return True
for line in document["config"].splitlines():
    while not tell(line):
        pass
"""


OTHER = "99999999-8888-4777-8666-666666666666"
"""The user endpoint that `another` starts."""


READERS = (pwd.getpwuid(os.getuid()).pw_name, "daemon")
"""The accounts that may read there: the test's own, and one that owns nothing there."""


class Site:
    """A supervisor with its sockets."""

    def __init__(
        self, supervisor: Supervisor, sessions: Sessions, runtime: Path, canary: CanaryReports, readers: Readers
    ) -> None:
        self.supervisor = supervisor
        self.sessions = sessions
        self.readers = readers
        self.runtime = runtime
        """The folder of the sockets."""
        self.canary = canary
        """What the canary told."""

    async def figures(self, name: str, endpoint: str = UEP) -> dict[str, float]:
        """The endpoint's figures, as soon as `name` is among them."""
        async with asyncio.timeout(60):
            while name not in (found := self._figures(endpoint)):
                await asyncio.sleep(0.01)
        return found

    def _figures(self, name: str) -> dict[str, float]:
        endpoint = next((one for one in self.supervisor.endpoints if one.id == name), None)
        return (endpoint and self.sessions.figures(endpoint)) or {}


@contextlib.asynccontextmanager
async def serving(
    spawner: Spawner,
    told: Told,
    runtime: Path,
    state: Path,
    audit: AuditLog | None = None,
    mode: Callable[[str], Mode | None] = lambda program: None,
) -> AsyncIterator[Site]:
    """The site, while the block runs; `mode` says in which mode a program runs."""
    client = SpawnerClient(spawner.socket)
    control: Entries = {"control": str(runtime / "control.sock"), "audited": audit is not None}
    launcher = Launcher(client, control, state / "endpoints", mode=mode)
    supervisor = Supervisor(MANAGER, 30.0, launcher, Store(state / "endpoints", None), told.send)
    sessions = Sessions(supervisor, audit)
    orders = Orders(Admission(state / "admission.json"), audit)
    head = Head(MANAGER, "cluster", client, launcher)
    recent = Recent()
    canary = CanaryReports()
    admin = Admin(supervisor, sessions, head.for_administrators, orders, Details(supervisor, recent), canary)
    users = Users(supervisor, sessions, head.for_users, audit)
    readers = Readers(READERS, admin.status, supervisor.failures)
    running = asyncio.create_task(client.run(supervisor))
    logging.getLogger("twinlock_broker").addHandler(recent)
    async with (
        listening(runtime / "admin.sock", 0o600, admin.serve),
        listening(runtime / "users.sock", 0o666, users.serve),
        listening(runtime / "readers.sock", 0o666, readers.serve),
    ):
        await asyncio.wait_for(client.ready.wait(), 60)
        async with listening(runtime / "control.sock", 0o666, sessions.serve):
            yield Site(supervisor, sessions, runtime, canary, readers)
    logging.getLogger("twinlock_broker").removeHandler(recent)
    running.cancel()
    await asyncio.wait((running,))


def another(program: str, config: str) -> StartRequest:
    """A start of `OTHER`, for the same account."""
    found = credentials(message(amqp_creds=amqp_creds() | {"endpoint_id": OTHER}), None)
    first = request(endpoint_user(), program, config)
    document = replace(first.document, amqp=found.amqp)
    return replace(first, name=f"uep.{MANAGER}.{OTHER}", credentials=found, document=document)


def says(*messages: object) -> str:
    """A configuration that has the endpoint send these."""
    return "".join((text if isinstance(text, str) else json.dumps(text)) + "\n" for text in messages)


async def ask(path: Path, line: str) -> dict[str, Any]:
    """The admin socket's answer."""
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(line.encode() + b"\n")
    answer = await asyncio.wait_for(reader.readline(), 60)
    writer.close()
    found: dict[str, Any] = json.loads(answer)
    return found
