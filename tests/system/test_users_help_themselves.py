"""What users do about their own endpoints at a running site, without root."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World, eventually
from twinlock_testbed import templates
from twinlock_testbed.manager import Manager, Setup
from twinlock_testbed.processes import endpoints

pytestmark = pytest.mark.system

OPTIONS = {"account_id": "own"}


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose endpoints stay."""
    return launch("own", Setup(templates.LOCAL))


def my(world: World, endpoint: Manager, user: str, *words: str) -> "subprocess.CompletedProcess[str]":
    """`twinlock my`, as an account."""
    argv: list[str | Path] = [world.prefix / "bin/twinlock", "my", "--socket", endpoint.runtime / "users.sock", *words]
    account = world.accounts[user]
    return subprocess.run(
        argv,
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        env={"PATH": "/usr/bin:/bin", "HOME": account.pw_dir},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )


def own(world: World, endpoint: Manager, user: str) -> list[str]:
    """The uuids of the account's endpoints, by its own word."""
    (found,) = json.loads(my(world, endpoint, user, "--json").stdout)
    return [row["id"] for row in found["endpoints"]]


def test_users_see_and_stop_their_own_endpoint(world: World, endpoint: Manager) -> None:
    assert world.run(ADA, endpoint, OPTIONS)[0].error is None
    (mine,) = own(world, endpoint, "twl-ada")
    assert json.loads(my(world, endpoint, "twl-ada", "options", mine[:8]).stdout) == OPTIONS
    assert "Tasks are consumed" in my(world, endpoint, "twl-ada", "log", mine).stdout
    done = my(world, endpoint, "twl-ada", "stop", mine)
    assert (done.returncode, done.stdout) == (0, f"{mine} of twl-ada is ending\n")
    assert eventually(lambda: not own(world, endpoint, "twl-ada"), 180)
    assert world.run(ADA, endpoint, OPTIONS)[0].error is None, "the next submission starts another"


def test_nobody_stops_what_others_have(world: World, endpoint: Manager) -> None:
    assert world.run(BOB, endpoint, OPTIONS)[0].error is None
    (hers,) = own(world, endpoint, "twl-ada")
    (his,) = own(world, endpoint, "twl-bob")
    assert my(world, endpoint, "twl-bob", "stop", hers).returncode == os.EX_DATAERR
    assert my(world, endpoint, "twl-bob", "options", hers).returncode == os.EX_DATAERR
    assert my(world, endpoint, "twl-bob", "stop", "--all").stdout == f"{his} of twl-bob is ending\n"
    assert own(world, endpoint, "twl-ada") == [hers]


def test_who_removes_the_pid_file_ends_an_endpoint_for_good(world: World, endpoint: Manager) -> None:
    """Neither its tasks, which have all got their answer, nor the command that came with them start it again."""
    (mine,) = own(world, endpoint, "twl-ada")
    script = world.script(ADA, endpoint.endpoint_id, OPTIONS, seconds=600)
    home = Path(world.accounts["twl-ada"].pw_dir, ".globus_compute", f"uep.{endpoint.endpoint_id}.{mine}")
    log = home / "endpoint.log"
    assert eventually(lambda: running_tasks(world, endpoint, mine) == 1, 180), log.read_text()
    (home / "daemon.pid").unlink()
    (outcome,) = script.outcomes(RESULT_TIMEOUT)
    assert "its daemon.pid was removed" in str(outcome.error)
    assert eventually(lambda: not own(world, endpoint, "twl-ada"), 180)
    assert all(process.username() != "twl-ada" for process in endpoints(endpoint.spawner.pid))


def running_tasks(world: World, endpoint: Manager, mine: str) -> int:
    """How many tasks the endpoint has."""
    (found,) = json.loads(my(world, endpoint, "twl-ada", "--json").stdout)
    (row,) = [row for row in found["endpoints"] if row["id"] == mine]
    return int((row["figures"] or {}).get("outstanding_tasks", 0))
