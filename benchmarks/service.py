"""How much longer a user of the service waits while another one floods it. As root.

``service.py [SECONDS]``. A service with a RabbitMQ of its own; Bob asks for his endpoints and submits a task, again and
again, while Alice does one thing after the other, from a process of her own. Each is done ROUNDS times for SECONDS, and
left off for as long in between, since a busy host makes anybody wait. The figure is the median over the rounds of the
longest wait that Bob had under the flood, less that of the longest ones without; the budget is what a neighbour may
cost him. A wait is the service's: the time in which its process could have run and got no core isn't counted, since
here the flood and other programs run on the same ones.
"""

import http.client
import json
import multiprocessing
import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Table
from globus_compute_common.messagepack.message_types import Result
from pika.exceptions import AMQPError
from service_rig import (
    ALICE,
    BOB,
    CLIENT_SECRET,
    MANAGER_CLIENT,
    PORT,
    TOKENS,
    Manager,
    Service,
    UserEndpoint,
    manager,
    sdk_client,
    users_file,
)

Clock = Callable[[], float]

BUDGET = 0.3
ROUNDS = 5
SETTLE = 1.0  # seconds from a flood's end until the service has nothing more to do for it
NOBODY = 65534  # whose the flood is, so that it comes from another account of the host
LIMIT = 60.0  # seconds for one answer


def main() -> int:
    """Measure and print. Return 1 if Bob had to wait for too long, else 0."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 3.0
    table = Table()
    with tempfile.TemporaryDirectory(prefix="twinlock-bench-", dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        users_file(folder / "users.yaml")
        service = Service(folder)
        service.start()
        try:
            with manager() as mep:
                _measure(table, seconds, mep, _time_of(service.daemon.pid))
        finally:
            service.stop()
    return table.exit_code()


def _measure(table: Table, seconds: float, mep: Manager, clock: Clock) -> None:
    alice, bob = Caller(ALICE, mep), Caller(BOB, mep)
    endpoint = alice.endpoint(mep)
    bob.endpoint(mep).close()
    floods: dict[str, Callable[[], None]] = {
        "nothing": _wait,
        "10,000 tasks a submission": lambda: alice.submit([""] * 10_000),
        "50,000 tasks a submission, refused": lambda: alice.submit([""] * 50_000),
        "100 MiB a submission": lambda: alice.submit(["x" * 10 * 2**20] * 10),
        "lists 20,000 deep": lambda: alice.post("/v2/batch_status", "[" * 20_000 + "]" * 20_000),
        "30 million values": lambda: alice.post(alice.submit_path, '{"tasks": [' + "0," * 30_000_000 + "0]}"),
        "scopes 2,000 deep": alice.log_in_deeply,
        "the states of 10,000 tasks": lambda: alice.post("/v2/batch_status", alice.states),
        "2,000 requests sent by halves": alice.send_halves,
        "100 requests at once": alice.ask_at_once,
        "status reports of 40 MiB": lambda: endpoint.heartbeat(x="x" * 40 * 2**20),
        "status reports of 10,000 values": lambda: endpoint.heartbeat(x=[0] * 9_000),
        "results of 30 MiB": lambda: endpoint.send(Result(task_id=alice.task, data="x" * 30 * 2**20)),
        "failure notices for 10,000 tasks": lambda: alice.fail(endpoint),
    }
    for what, flood in floods.items():
        flooded, quiet = [], []
        for _ in range(ROUNDS):
            flooded.append(bob.longest_waits(seconds, flood, clock))
            time.sleep(SETTLE)
            quiet.append(bob.longest_waits(seconds, _wait, clock))
        questions = _added([w.question for w in flooded], [w.question for w in quiet])
        table.row(f"{what}: a question", questions, "s", BUDGET)
        submissions = _added([w.submission for w in flooded], [w.submission for w in quiet])
        table.row(f"{what}: a submission", submissions, "s", BUDGET)


def _added(flooded: list[float], quiet: list[float]) -> float:
    return statistics.median(flooded) - statistics.median(quiet)


@dataclass
class Waits:
    """The longest waits for a question's and a submission's answer, in seconds."""

    question: float = 0.0
    submission: float = 0.0


class Caller:
    """A user with a function, who speaks HTTP as it comes."""

    def __init__(self, who: str, mep: Manager) -> None:
        client = sdk_client(who)
        self._headers = {"Authorization": f"Bearer {TOKENS[who]}", "Content-Type": "application/json"}
        self._function = str(client.register_function(_nothing))
        self.submit_path = f"/v3/endpoints/{mep.id}/submit"
        self.task = str(self.submit([""])["tasks"][self._function][0])
        self.states = json.dumps({"task_ids": [self.task] * 10_000})

    def endpoint(self, mep: Manager) -> UserEndpoint:
        """Return the user endpoint that the first submission asked for."""
        return mep.user_endpoint()

    def submit(self, payloads: list[str]) -> Any:
        """Submit a task for each payload, and return the answer."""
        return self.post(self.submit_path, json.dumps({"tasks": {self._function: payloads}}))

    def post(self, path: str, body: str) -> Any:
        """Send a request, and return the answer, whatever it says."""
        return self._ask("POST", path, body)

    def log_in_deeply(self) -> None:
        """Ask for a token of a scope in many brackets."""
        login = f"client_id={MANAGER_CLIENT}&client_secret={CLIENT_SECRET}"
        scope = "openid" + "[x" * 2_000 + "]" * 2_000
        self.post("/v2/oauth2/token", f"grant_type=client_credentials&{login}&scope={scope}")

    def send_halves(self) -> None:
        """Begin many requests, and end none."""
        begun = []
        for _ in range(2_000):
            connection = socket.create_connection(("127.0.0.1", PORT), LIMIT)
            connection.sendall(b"GET /v2/endpoints HTTP/1.1\r\n")
            begun.append(connection)
        time.sleep(LIMIT)

    def ask_at_once(self) -> None:
        """Ask for much on many connections without reading the answers."""
        body = self.states
        fields = {"Host": "localhost", **self._headers, "Content-Length": len(body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        request = f"POST /v2/batch_status HTTP/1.1\r\n{head}\r\n{body}"
        asked = []
        for _ in range(100):
            connection = socket.create_connection(("127.0.0.1", PORT), LIMIT)
            connection.setblocking(False)
            with suppress(BlockingIOError):
                connection.send(request.encode())
            asked.append(connection)
        time.sleep(1)

    def fail(self, endpoint: UserEndpoint) -> None:
        """Submit many tasks, and end them by one message."""
        self.submit([""] * 10_000)
        endpoint.notice("why " + "x" * 8_000)
        time.sleep(1)

    def longest_waits(self, seconds: float, flood: Callable[[], None], clock: Clock) -> Waits:
        """Return how long this caller waits at most while somebody else's flood goes on."""
        flooding = multiprocessing.get_context("fork").Process(target=_again_and_again, args=(flood,))
        flooding.start()
        waits = Waits()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            waits.question = max(waits.question, _seconds(self._ask_for_endpoints, clock))
            waits.submission = max(waits.submission, _seconds(lambda: self.submit([""]), clock))
            time.sleep(0.02)
        flooding.kill()
        flooding.join()
        return waits

    def _ask_for_endpoints(self) -> None:
        self._ask("GET", "/v2/endpoints", None)

    def _ask(self, method: str, path: str, body: str | None) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=LIMIT)
        try:
            connection.request(method, path, body, self._headers)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()


def _nothing() -> None:
    """Do nothing: the task."""


def _wait() -> None:
    time.sleep(LIMIT)


def _again_and_again(flood: Callable[[], None]) -> None:
    os.setuid(NOBODY)
    while True:
        try:
            flood()
        except (OSError, http.client.HTTPException, AMQPError):
            time.sleep(0.1)  # refused or cut off


def _time_of(process: int) -> Clock:
    """Return a clock that stands still while the process's first thread waits for a core; see /proc/PID/schedstat."""
    schedstat = Path(f"/proc/{process}/schedstat")

    def seconds() -> float:
        _, waited, _ = schedstat.read_text().split()
        return time.monotonic() - int(waited) / 1e9

    return seconds


def _seconds(work: Callable[[], Any], clock: Clock) -> float:
    begun = clock()
    work()
    return clock() - begun


if __name__ == "__main__":
    sys.exit(main())
