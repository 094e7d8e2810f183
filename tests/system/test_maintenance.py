"""A site before and after maintenance, an account that is blocked, an endpoint that is deleted: what users notice."""

import os
import subprocess
from pathlib import Path

import pytest
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World, eventually
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup
from twinlock_testbed.service import URL

pytestmark = pytest.mark.system

HEARD = "heartbeat_period: 5\n"
"""A template's line, so that `twinlock status` soon shows what endpoints do."""


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose endpoints stay."""
    return launch("maintained", Setup(templates.LOCAL + HEARD))


def twinlock(world: World, endpoint: Manager, *words: str) -> "subprocess.CompletedProcess[str]":
    """A command that asks the broker, as root."""
    argv: list[str | Path] = [world.prefix / "bin/twinlock", *words, "--socket", endpoint.runtime / "admin.sock"]
    return subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)


def delete(world: World, endpoint: Manager) -> "subprocess.CompletedProcess[str]":
    """`twinlock delete`, as root, by the manager's login."""
    command: list[str | Path] = [world.prefix / "bin/twinlock", "delete", "--yes", endpoint.endpoint_dir]
    paths: list[str | Path] = ["--state", endpoint.folder / "broker", "--spawner-socket", endpoint.socket]
    environment = {
        "PATH": "/usr/bin:/bin",
        "GLOBUS_SDK_SERVICE_URL_AUTH": URL,
        "GLOBUS_COMPUTE_CLIENT_ID": world.service.login.client_id,
        "GLOBUS_COMPUTE_CLIENT_SECRET": world.service.login.secret,
    }
    return subprocess.run([*command, *paths], env=environment, capture_output=True, text=True, timeout=400, check=False)


def test_a_blocked_account_is_told_and_nobody_else_notices(world: World, endpoint: Manager) -> None:
    assert twinlock(world, endpoint, "block", "twl-bob", "--reason", "call the help desk").returncode == 0
    error = world.run(BOB, endpoint, {"account_id": "b"})[0].error
    assert error is not None
    assert "The account 'twl-bob' is blocked at this endpoint: call the help desk" in error
    assert world.run(ADA, endpoint, {"account_id": "a"})[0].result is not None
    assert twinlock(world, endpoint, "unblock", "twl-bob").returncode == 0
    assert world.run(BOB, endpoint, {"account_id": "b"})[0].result is not None


@pytest.mark.thorough
def test_a_drain_waits_for_running_tasks_and_outlives_the_broker(world: World, endpoint: Manager) -> None:
    twinlock(world, endpoint, "stop", "--user", "twl-bob")
    working = world.script(ADA, endpoint.endpoint_id, {"account_id": "a"}, seconds=30)
    shown = lambda: '"outstanding_tasks": 1' in twinlock(world, endpoint, "status", "--json").stdout  # noqa: E731
    assert eventually(shown, 180), "the task runs"
    drained = twinlock(world, endpoint, "drain", "--reason", "new kernel", "--timeout", "300")
    assert (drained.returncode, drained.stderr) == (0, "")
    assert "waiting for twl-ada " in drained.stdout
    assert drained.stdout.endswith("drained: no endpoint is left\n")
    assert working.outcomes(RESULT_TIMEOUT)[0].result is not None, "it came to its end"
    endpoint.broker.stop()
    endpoint.start_broker()
    error = world.run(BOB, endpoint, {"account_id": "b"})[0].error
    assert error is not None
    assert "This endpoint starts nothing at the moment: new kernel; submit again when that is over" in error
    assert twinlock(world, endpoint, "resume").returncode == 0
    assert world.run(BOB, endpoint, {"account_id": "b"})[0].result is not None


@pytest.mark.thorough
def test_a_deleted_endpoint_is_gone_from_the_service_and_the_host(world: World, launch: Launch) -> None:
    short = launch("deleted", Setup(templates.LOCAL + templates.IDLE))
    assert world.run(ADA, short, {"account_id": "a"})[0].result is not None
    refused = delete(world, short)
    assert (refused.returncode, "is in use by another twinlock-broker" in refused.stderr) == (os.EX_TEMPFAIL, True)
    short.broker.stop()
    assert eventually(lambda: delete(world, short).returncode == 0, 180), "its user endpoint becomes idle and ends"
    assert not (short.endpoint_dir / "config.yaml").exists()
    assert not (short.folder / "broker" / "endpoint.json").exists()
    error = world.run(ADA, short, {"account_id": "a"})[0].error
    assert error is not None
    assert "404" in error
