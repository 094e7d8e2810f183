"""`twinlock top` at a running site, on a real terminal: what an administrator sees of users' endpoints, and does."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from site_rig import ADA, Launch, World, eventually
from terminal_rig import Terminal, on_terminal
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup

pytestmark = [pytest.mark.system, pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")]

NARROW = "USER^ ENDPOINT STATE AGE RUN QUEUE DONE MEM CPU IDLE"
WIDE = "USER^ ENDPOINT OPTIONS STATE MODE AGE RUN QUEUE DONE WORKERS BLOCKS JOBS MEM CPU IDLE"
OPTIONS = {"account_id": "seen-by-top"}


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose endpoints stay."""
    return launch("top", Setup(templates.LOCAL + "heartbeat_period: 5\n"))


def rows(world: World, endpoint: Manager) -> list[dict[str, Any]]:
    """The endpoints in `twinlock status --json`."""
    argv: list[str | Path] = [world.prefix / "bin/twinlock", "status", "--json", "--socket"]
    done = subprocess.run([*argv, endpoint.runtime / "admin.sock"], capture_output=True, timeout=180, check=True)
    found: list[dict[str, Any]] = json.loads(done.stdout)["endpoints"]
    return found


def headed(terminal: Terminal, heading: str) -> bool:
    """Whether the table has these columns."""
    return any(line.split() == heading.split() for line in terminal.screen())


@pytest.mark.parametrize(("size", "heading"), [((80, 24), NARROW), ((200, 50), WIDE)])
def test_an_administrator_looks_and_stops(world: World, endpoint: Manager, size: tuple[int, int], heading: str) -> None:
    assert world.run(ADA, endpoint, OPTIONS)[0].error is None
    (row,) = rows(world, endpoint)
    argv = (world.prefix / "bin/twinlock", "top", "--socket", endpoint.runtime / "admin.sock")
    with on_terminal(argv, size, NO_COLOR="1") as terminal:
        terminal.until(lambda words: "twl-ada" in words and "? keys" in words)
        words = terminal.until(lambda words: "AMQP commands up, heartbeats up" in words)
        assert f"manager endpoint {endpoint.endpoint_id}" in words
        assert headed(terminal, heading), terminal.screen()
        terminal.keys("Enter")
        terminal.until(lambda words: "Tasks are consumed" in words)
        terminal.keys("2")
        terminal.until(lambda words: "type: GlobusComputeEngine" in words)
        terminal.keys("4")
        terminal.until(lambda words: "the spawner started it" in words)
        terminal.keys("Escape")
        terminal.until(lambda words: "? keys" in words)
        terminal.keys("s")
        terminal.until(lambda words: f"Stop endpoint {row['id']} of twl-ada" in words)
        terminal.keys("y")
        assert eventually(lambda: not rows(world, endpoint), 180)
        terminal.keys("q")
        assert terminal.exit_code() == os.EX_OK


def test_a_broker_that_is_restarted(world: World, endpoint: Manager) -> None:
    assert world.run(ADA, endpoint, OPTIONS)[0].error is None
    argv = (world.prefix / "bin/twinlock", "top", "--socket", endpoint.runtime / "admin.sock")
    with on_terminal(argv, (80, 24), NO_COLOR="1") as terminal:
        terminal.until(lambda words: "twl-ada" in words)
        endpoint.broker.stop()
        words = terminal.until(lambda words: "STALE" in words)
        assert "the broker doesn't answer: " in words
        assert "twl-ada" in words, "the last picture stays"
        endpoint.start_broker()
        terminal.until(lambda words: "STALE" not in words and "twl-ada" in words)
        terminal.keys("q")
        assert terminal.exit_code() == os.EX_OK
