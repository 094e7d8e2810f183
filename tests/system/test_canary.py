"""`twinlock canary` at a real site: its task runs as an account of its own, and the broker is told."""

import re
import subprocess
from pathlib import Path

import pytest
from site_rig import ADA, RESULT_TIMEOUT, STRANGER, Launch, World
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup
from twinlock_testbed.service import URL, private_file

pytestmark = [pytest.mark.system, pytest.mark.thorough]


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose endpoints end soon after their task."""
    return launch("canary", Setup(templates.LOCAL + templates.IDLE))


def canary(world: World, endpoint: Manager, who: str) -> "subprocess.CompletedProcess[str]":
    """Its outcome, as that person and run by the broker's account."""
    text = f"token: {world.service.people[who].token}\noptions: {{account_id: monitoring}}\n"
    config = private_file(endpoint.folder / "canary.yaml", text, world.broker_user)
    argv: list[str | Path] = [
        world.prefix / "bin/twinlock",
        "canary",
        "--config",
        config,
        "--state",
        endpoint.folder / "broker",
    ]
    argv += ["--socket", endpoint.runtime / "admin.sock", "-w", str(RESULT_TIMEOUT), "-c", str(RESULT_TIMEOUT)]
    return subprocess.run(
        [*argv, endpoint.endpoint_dir],
        env={"PATH": "/usr/bin:/bin", "GLOBUS_SDK_SERVICE_URL_AUTH": URL},
        user=world.broker_user,
        group=world.broker_user,
        extra_groups=[],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=2 * RESULT_TIMEOUT,
        check=False,
    )


def test_a_task_of_the_canary_runs_and_the_broker_is_told(world: World, endpoint: Manager) -> None:
    for _ in range(2):  # with a new function, and with the known one
        done = canary(world, endpoint, ADA)
        assert re.fullmatch(r"CANARY OK - result after \d+\.\d s \| time=\d+\.\d+s;\d+;\d+\n", done.stdout), done
        assert done.returncode == 0


def test_the_canary_says_what_a_user_would_be_told(world: World, endpoint: Manager) -> None:
    done = canary(world, endpoint, STRANGER)
    assert done.returncode == 2
    assert done.stdout.startswith("CANARY CRITICAL - endpoint: ")
    assert "maps to an account of this site" in done.stdout
    assert "the canary failed: endpoint: " in (endpoint.folder / "broker.log").read_text()
