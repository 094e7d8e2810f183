"""What an administrator sees of a running site and does to it, and what its users notice of that.

Covered are `twinlock`'s commands that ask the broker, and a broker that is killed.
"""

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World, eventually
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup
from twinlock_testbed.processes import endpoints

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose endpoints stay."""
    return launch("admin", Setup(templates.LOCAL + "heartbeat_period: 5\n"))


def twinlock(world: World, endpoint: Manager, *words: str) -> "subprocess.CompletedProcess[str]":
    """The command, as root."""
    argv: list[str | Path] = [world.prefix / "bin/twinlock", *words, "--socket", endpoint.runtime / "admin.sock"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)


def rows(world: World, endpoint: Manager) -> list[dict[str, Any]]:
    """The endpoints in `twinlock status --json`."""
    done = twinlock(world, endpoint, "status", "--json")
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["endpoints"]
    return found


def row_of(world: World, endpoint: Manager, user: str) -> dict[str, Any]:
    """The one endpoint of `user`."""
    (row,) = [row for row in rows(world, endpoint) if row["user"] == user]
    return row


def endpoint_log(world: World, user: str, row: dict[str, Any], endpoint: Manager) -> str:
    """The endpoint's own log."""
    name = f"uep.{endpoint.endpoint_id}.{row['id']}"
    with open(f"{world.accounts[user].pw_dir}/.globus_compute/{name}/endpoint.log") as log:
        return log.read()


def test_status_tells_what_endpoints_do(world: World, endpoint: Manager) -> None:
    assert world.run(ADA, endpoint, {"account_id": "seen"})[0].result is not None
    assert eventually(lambda: (row_of(world, endpoint, "twl-ada")["figures"] or {}).get("total_workers") == 1, 180)
    row = row_of(world, endpoint, "twl-ada")
    assert (row["state"], row["pid"]) == ("running", endpoints(endpoint.spawner.pid)[0].pid)
    table = twinlock(world, endpoint, "status").stdout
    assert f"manager endpoint {endpoint.endpoint_id}" in table
    assert re.search(rf"^twl-ada +{row['id']} .* running ", table, re.MULTILINE)


def test_a_newer_submission_refreshes_the_endpoints_credentials(world: World, endpoint: Manager) -> None:
    world.run(ADA, endpoint, {"account_id": "seen"})
    row = row_of(world, endpoint, "twl-ada")
    assert eventually(lambda: "fresh credentials" in endpoint_log(world, "twl-ada", row, endpoint), 180)


def test_a_broker_that_is_killed_costs_no_task(world: World, endpoint: Manager) -> None:
    before = row_of(world, endpoint, "twl-ada")
    os.kill(endpoint.broker.pid, signal.SIGKILL)
    script = world.script(ADA, endpoint.endpoint_id, {"account_id": "seen"}, tasks=5)
    endpoint.broker.stop()
    endpoint.start_broker()
    assert [outcome.error for outcome in script.outcomes(RESULT_TIMEOUT)] == [None] * 5
    after = row_of(world, endpoint, "twl-ada")
    assert (after["id"], after["pid"]) == (before["id"], before["pid"])
    connected = lambda: row_of(world, endpoint, "twl-ada")["figures"] is not None  # noqa: E731
    assert eventually(connected, 180), "the endpoint connects to the new broker"


def test_stop_ends_an_endpoint_and_the_next_submission_starts_another(world: World, endpoint: Manager) -> None:
    assert world.run(BOB, endpoint, {"account_id": "stopped"})[0].result is not None
    row = row_of(world, endpoint, "twl-bob")
    done = twinlock(world, endpoint, "stop", row["id"][:8])
    assert (done.returncode, done.stdout) == (0, f"{row['id']} of twl-bob is ending\n")
    assert eventually(lambda: all(one["user"] != "twl-bob" for one in rows(world, endpoint)), 180)
    assert world.run(BOB, endpoint, {"account_id": "stopped"})[0].result is not None


def test_stop_names_what_there_is(world: World, endpoint: Manager) -> None:
    done = twinlock(world, endpoint, "stop", "ffffffff-0000")
    assert done.returncode == os.EX_DATAERR
    assert row_of(world, endpoint, "twl-ada")["id"] in done.stderr


def test_without_a_broker_the_commands_say_so(world: World, endpoint: Manager) -> None:
    argv: list[str | Path] = [world.prefix / "bin/twinlock", "status", "--socket", endpoint.folder / "nobody.sock"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == os.EX_UNAVAILABLE
    assert "no broker there" in done.stderr
