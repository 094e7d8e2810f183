"""A hostile broker: the real one's account, its connection to the spawner, and the service's queues as well."""

import json
import pwd
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pika

from twinlock_testbed.daemons import DaemonError, as_user, run
from twinlock_testbed.manager import Manager
from twinlock_testbed.scripts import start

_PROGRAM = Path(__file__).with_name("hostile_broker.py")
_LIMIT = 120.0
"""Seconds for anything to happen."""

_T = TypeVar("_T")


class HostileBroker:
    """What whoever has taken over the broker can do to the account `victim`, by the spawner and RabbitMQ."""

    def __init__(self, manager: Manager, victim: pwd.struct_passwd, folder: Path) -> None:
        """Take the real broker's place. `folder` is one that every account may enter."""
        self.manager_id = manager.endpoint_id
        self.victim = victim
        self.trace = Path(victim.pw_dir, "taken-over")
        """A path in the victim's home at which nothing may ever be."""
        self.key = folder / "hostile-key"
        """An SSH key of its own."""
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "nobody knows it", "-f", self.key)
        self.url = manager.service.amqp()["url"]
        """RabbitMQ's, with a login that may do everything."""
        self._rabbit = pika.BlockingConnection(pika.URLParameters(f"{self.url}?heartbeat=0"))
        self._channel = self._rabbit.channel()
        program = folder / _PROGRAM.name
        program.write_text(_PROGRAM.read_text())
        argv: list[str | Path] = [manager.prefix / "bin/python", "-I", program, manager.socket]
        self._process = start([*as_user(manager.broker_user), *argv], subprocess.DEVNULL)

    def close(self) -> None:
        """End it. What it had started goes on."""
        self._process.kill()
        self._process.communicate()
        self._rabbit.close()

    def start(
        self, creds: dict[str, Any], *, program: str = "endpoint", config: str = "", wait: bool = False
    ) -> dict[str, Any]:
        """Have the spawner start an endpoint of the victim's with a start document of one's own.

        Args:
            creds: `amqp_creds` of the document.
            program: a name in the policy.
            config: the configuration in the document.
            wait: wait for the endpoint's end.

        Returns:
            pid, and what it said if it has ended; or the spawner's reason, under ``refused``.
        """
        endpoint = creds["endpoint_id"]
        order = {"id": endpoint, "user": self.victim.pw_name, "name": self.name(creds), "program": program}
        order |= {"document": {"amqp_creds": creds, "config": config, "ep_info": {}}, "wait": wait}
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        print(json.dumps(order), file=stdin, flush=True)
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def name(self, creds: dict[str, Any]) -> str:
        """Return the full name of an endpoint."""
        return f"uep.{self.manager_id}.{creds['endpoint_id']}"

    def intercept_command(self) -> dict[str, Any]:
        """Return the queues of the endpoint that the next start command is for, with their credentials."""
        body = self._wait(lambda: self._get(f"ep.{self.manager_id}.commands"), "no start command came")
        creds: dict[str, Any] = json.loads(body)["kwargs"]["amqp_creds"]
        return creds

    def intercept_tasks(self, creds: dict[str, Any], count: int) -> list[bytes]:
        """Take so many tasks out of an endpoint's queue, and return their messages."""
        queue = creds["task_queue_info"]["queue"]
        return [self._wait(lambda: self._get(queue), "no task came") for _ in range(count)]

    def _get(self, queue: str) -> bytes | None:
        _, _, body = self._channel.basic_get(queue, auto_ack=True)
        return body if body is None else bytes(body)

    def own_queues(self) -> dict[str, Any]:
        """Return `amqp_creds` with queues of one's own, on the host that the site allows."""
        endpoint = str(uuid.uuid4())
        names = {kind: f"{endpoint}.{kind}" for kind in ("tasks", "results", "heartbeats")}
        for queue in names.values():
            self._channel.queue_declare(queue)
        told: dict[str, Any] = {"endpoint_id": endpoint}
        told["task_queue_info"] = {"connection_url": self.url, "queue": names["tasks"]}
        for kind in ("result", "heartbeat"):
            where = {"exchange": "", "routing_key": names[f"{kind}s"], "mandatory": True}
            publish = where | {"properties": {"delivery_mode": 2}}
            info = {"connection_url": self.url, "queue": names[f"{kind}s"], "exchange": ""}
            told[f"{kind}_queue_info"] = info | {"queue_publish_kwargs": publish}
        return told

    def deliver(self, creds: dict[str, Any], task_id: str, body: bytes) -> None:
        """Put a task into an endpoint's queue."""
        properties = pika.BasicProperties(headers={"task_uuid": task_id, "function_uuid": str(uuid.uuid4())})
        self._channel.basic_publish("", creds["task_queue_info"]["queue"], body, properties)

    def answer(self, creds: dict[str, Any], body: bytes) -> None:
        """Send a result as the endpoint does, with its own credentials."""
        where = creds["result_queue_info"]
        told = where["queue_publish_kwargs"]
        with pika.BlockingConnection(pika.URLParameters(where["connection_url"])) as connection:
            connection.channel().basic_publish(told["exchange"], told["routing_key"], body)

    def log_line(self, creds: dict[str, Any], words: str) -> str:
        """Wait for a line with these words in the log of the victim's endpoint, and return it."""
        path = Path(self.victim.pw_dir, ".globus_compute", self.name(creds), "endpoint.log")

        def found() -> str | None:
            lines = path.read_text().splitlines() if path.exists() else []
            return next((line for line in lines if words in line), None)

        return self._wait(found, f"{path} has no line with {words!r}")

    def _wait(self, ready: Callable[[], _T | None], wrong: str) -> _T:
        end = time.monotonic() + _LIMIT
        while (value := ready()) is None:
            if time.monotonic() > end:
                raise DaemonError(f"the hostile broker: {wrong} within {_LIMIT:.0f} s")
            time.sleep(0.05)
        return value


@contextmanager
def hostile_broker(manager: Manager, victim: pwd.struct_passwd, folder: Path) -> Iterator[HostileBroker]:
    """Put a hostile broker in the place of the real one, which is stopped."""
    manager.broker.stop()
    made = HostileBroker(manager, victim, folder)
    try:
        yield made
    finally:
        made.close()
