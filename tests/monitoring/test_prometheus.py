"""A real Prometheus that scrapes a real broker: the dashboard has data, and an alert fires and stops."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_process import Broker, broker_place, running_spawner, start_command
from broker_rabbit import Rabbit
from broker_rest import rest_service
from broker_rig import MANAGER
from monitoring_rig import RULES, Prometheus, queries
from service_rig import free_port
from spawner_rig import PYTHON
from twinlock_common.task_times import BOUNDS, RUN, WAIT

POLICY = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}

TIMES = {"counts": [0, 5] + [0] * (len(BOUNDS) - 1), "sum": 1.5}
"""Five tasks of 0.3 s each."""

WORK = {
    "type": "figures",
    "figures": {"running_tasks": 1, "queued_tasks": 3, "total_workers": 2, "idle_workers": 1},
    "histograms": {WAIT: TIMES, RUN: TIMES},
}

# An endpoint that says what it does, and waits.
WORKING = f"""
import json, signal, socket, sys
document = json.load(sys.stdin)
sock = socket.socket(socket.AF_UNIX)
sock.connect(document["control"])
sock.sendall(json.dumps({WORK!r}).encode() + b"\\n")
signal.pause()
"""

EMPTY = {
    "Age of the canary's tasks",
    "Alerts",
    "Audit log",
    "Audit log over time",
    "Canary",
    "Duration of the canary's task",
    "Refused starts",
    "Starts that the spawner couldn't record",
}
"""Panels that have nothing to show at a healthy site that keeps no audit log and has no canary."""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with an endpoint's folder in it."""
    with broker_place() as made:
        (made / "state").chmod(0o711)  # the way to the control socket
        yield made


def rules() -> str:
    """The alerts; that about the spawner fires at once."""
    head, name, rest = RULES.read_text().partition("- alert: TwinlockSpawnerDisconnected\n")
    return head + name + re.sub(r"for: \w+", "for: 0s", rest, count=1)


async def without_data(prometheus: Prometheus) -> set[str]:
    """The panels with a query that gives nothing. One with an error raises it."""
    answers = [(title, await prometheus.query(query)) for title, query in queries()]
    return {title for title, found in answers if not found}


@pytest.mark.thorough
@pytest.mark.system
@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus")
async def test_a_site_is_shown_and_an_alert_fires_and_stops(rabbit: Rabbit, place: Path, tmp_path: Path) -> None:
    target = f"127.0.0.1:{free_port()}"
    policy = POLICY | {"programs": {"working": [*PYTHON, WORKING]}}
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, policy) as spawner:
        running = Broker.running(place, spawner, service, program="working", metrics=target)
        async with running, Prometheus.running(tmp_path, target, rules()) as prometheus:
            await prometheus.until("twinlock_spawner_connected == 1")
            await start_command(rabbit)
            await prometheus.until('twinlock_endpoints{state="running"} == 1')
            await prometheus.until('twinlock_tasks{state="queued"} == 3')
            await prometheus.until("twinlock_task_seconds_count == 5")
            await prometheus.until('rate(twinlock_starts_total{outcome="started"}[1m])')  # scraped twice since
            assert await without_data(prometheus) == EMPTY
            assert await prometheus.firing() == set()

            spawner.process.kill()
            await prometheus.until_firing("TwinlockSpawnerDisconnected")
            assert "Alerts" not in await without_data(prometheus)

            with running_spawner(place, policy):
                await prometheus.until_firing()
