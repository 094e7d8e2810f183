"""`twinlock trace` at a running site: from what an administrator has in hand to the person, and to what happened."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from site_rig import ADA, BOB, Launch, World
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup

pytestmark = [pytest.mark.system, pytest.mark.thorough]

OPTIONS = {"account_id": "seen-by-trace"}


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose endpoints stay."""
    return launch("trace", Setup(templates.LOCAL + "heartbeat_period: 5\n"))


def trace(world: World, endpoint: Manager, word: str) -> list[dict[str, Any]]:
    """The events that the command prints for a word."""
    argv: list[str | Path] = [world.prefix / "bin/twinlock", "trace", word, "--json"]
    argv += ["--broker-log", endpoint.folder / "broker.log", "--audit-log", endpoint.audit]
    argv += ["--socket", endpoint.runtime / "admin.sock"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_from_a_process_an_account_and_an_error_id(world: World, endpoint: Manager) -> None:
    (outcome,) = world.run(ADA, endpoint, OPTIONS)
    assert outcome.result is not None
    refused = str(world.run(BOB, endpoint, {"no_such_option": 1})[0].error)
    events = trace(world, endpoint, str(outcome.result["pid"]))  # of the worker
    assert {"broker", "spawner", "user's log", "now"} == {event["source"] for event in events}
    assert {event["person"] for event in events if "person" in event} == {ADA}
    texts = [event["text"] for event in events]
    (started,) = [text for text in texts if text.startswith("Started for the request ")]
    (request,) = {event["request"] for event in events if event["source"] == "spawner"}
    assert request in started
    assert any(re.match("1 tasks ended|1 task ended", text) for text in texts)
    same = trace(world, endpoint, ADA)
    assert {event["endpoint"] for event in same if "endpoint" in event} == {events[0]["endpoint"]}

    (error_id,) = re.findall(r"\(error id ([0-9a-f]{8})\)", refused)
    failed = trace(world, endpoint, error_id)
    assert {event["user"] for event in failed if "user" in event} == {BOB.partition("@")[0]}
    assert any("failed at the stage rendering" in event["text"] for event in failed)
