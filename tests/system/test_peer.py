"""Ours and the official endpoint agent's parts in each other's places: the service, the manager, the user endpoint."""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World
from twinlock_testbed import templates
from twinlock_testbed.daemons import Daemon
from twinlock_testbed.manager import Setup, endpoint_folder
from twinlock_testbed.service import URL

pytestmark = [pytest.mark.system, pytest.mark.peer]

AGENT = "globus-compute-endpoint"


@pytest.fixture(scope="module")
def program(world: World) -> Path:
    """The official agent's program."""
    found = world.prefix / "peer" / "bin" / AGENT
    if not found.exists():
        pytest.skip(f"needs {AGENT} in an environment of its own; make test installs it")
    return found


@contextmanager
def official_manager(world: World, program: Path, name: str, path: str) -> Iterator[str]:
    """The official manager as root, whose endpoints get that PATH; its uuid."""
    home = world.folder / name
    home.mkdir()
    local = templates.LOCAL.replace("provider:", "address: 127.0.0.1\n  provider:")
    endpoint_folder(home / "manager", Setup(local + templates.IDLE, environment={"PATH": path}))
    login = {
        "HOME": str(home),
        "PATH": f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
        "GLOBUS_COMPUTE_USER_DIR": str(home),
        "GLOBUS_COMPUTE_CLIENT_ID": world.service.login.client_id,
        "GLOBUS_COMPUTE_CLIENT_SECRET": world.service.login.secret,
        "GLOBUS_SDK_SERVICE_URL_AUTH": URL,
    }
    daemon = Daemon(AGENT, [program, "start", "manager"], world.folder / f"{name}.log", environment=login)
    try:
        yield _endpoint_id(daemon, home / "manager")
    finally:
        daemon.stop()


@pytest.fixture(scope="module")
def agent(world: World, program: Path) -> Iterator[str]:
    """The official manager with its own endpoints."""
    with official_manager(world, program, "peer", f"{program.parent}:/usr/bin:/bin") as endpoint_id:
        yield endpoint_id


def _endpoint_id(daemon: Daemon, folder: Path) -> str:
    def known() -> str | None:
        with suppress(FileNotFoundError, ValueError):  # it isn't there yet, or is just being written
            return str(json.loads((folder / "endpoint.json").read_text())["endpoint_id"])
        return None

    return daemon.wait_until(known, 180, "register")


@pytest.mark.thorough
def test_the_job(world: World, agent: str) -> None:
    first = world.script(ADA, agent, {"account_id": "one"}, {"account_id": "two"})
    second = world.script(BOB, agent, {"account_id": "three"})
    results = [
        outcome.result or outcome.error for script in (first, second) for outcome in script.outcomes(RESULT_TIMEOUT)
    ]
    seen = {(result["uid"], result["directory"]) for result in results if isinstance(result, dict)}
    ada, bob = (world.accounts[name].pw_uid for name in ("twl-ada", "twl-bob"))
    assert seen == {(ada, "one"), (ada, "two"), (bob, "three")}, results


def test_the_reason_of_a_refusal(world: World, agent: str) -> None:
    (outcome,) = world.run(ADA, agent, {})
    assert "account_id" in (outcome.error or "")


@pytest.mark.thorough
def test_our_endpoint_under_the_official_manager(world: World, program: Path) -> None:
    """A site that goes over step by step may begin with the endpoint: its program's name leads to ours."""
    folder = world.folder / "ours"
    folder.mkdir()
    (folder / AGENT).symlink_to(world.prefix / "bin" / "twinlock-endpoint")
    with official_manager(world, program, "peer-ours", f"{folder}:/usr/bin:/bin") as endpoint_id:
        for _ in range(2):  # the second command's credentials come in the file that they share
            (outcome,) = world.run(ADA, endpoint_id, {"account_id": "ours"})
            assert outcome.result is not None, outcome.error
            assert outcome.result["uid"] == world.accounts["twl-ada"].pw_uid
        logs = Path(world.accounts["twl-ada"].pw_dir).glob(f".globus_compute/uep.{endpoint_id}.*/endpoint.log")
        assert "twinlock_endpoint.life.endpoint" in next(logs).read_text()


SHELL = 'mkdir -p -m 700 "$HOME/.globus_compute/$1"; PATH="${0%/*}:$PATH" exec "$0" _start-user-endpoint "$1"'
"""How older policies start it: it wants its folder, which its own manager makes, and its programs on PATH."""


@pytest.mark.thorough
@pytest.mark.parametrize("policy", ["by ours", "by a shell"])
def test_the_official_endpoint_under_our_manager(world: World, program: Path, launch: Launch, policy: str) -> None:
    ours = policy == "by ours"
    template = templates.LOCAL.replace("provider:", "address: 127.0.0.1\n  provider:") + templates.IDLE
    words = (str(world.prefix / "bin/twinlock-endpoint"), "--agent") if ours else ("/bin/sh", "-c", SHELL)
    variables = {"SLURM_JOB_ACCOUNT": "the site's"}
    setup = Setup(template, environment=variables, program=(*words, str(program)))
    manager = launch("theirs-ours" if ours else "theirs-shell", setup)
    first = world.script(ADA, manager.endpoint_id, {"account_id": "theirs"}, tasks=2)
    second = world.script(BOB, manager.endpoint_id, {"account_id": "theirs"})
    outcomes = [*first.outcomes(RESULT_TIMEOUT), *second.outcomes(RESULT_TIMEOUT)]
    ada, bob = (world.accounts[name].pw_uid for name in ("twl-ada", "twl-bob"))
    assert [outcome.result and outcome.result["uid"] for outcome in outcomes] == [ada, ada, bob], outcomes
    results = [outcome.result or {} for outcome in outcomes]
    seen = {result["environment"]["SLURM_JOB_ACCOUNT"] for result in results}
    assert seen == {"the site's" if ours else None}
