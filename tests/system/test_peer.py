"""The service is no special friend of ours: the official endpoint agent, run as root, does the same job with it."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from site_rig import ADA, BOB, World
from twinlock_testbed import templates
from twinlock_testbed.daemons import Daemon
from twinlock_testbed.site import URL, Setup, endpoint_folder

pytestmark = [pytest.mark.system, pytest.mark.peer]

AGENT = "globus-compute-endpoint"


@pytest.fixture(scope="module")
def agent(world: World) -> Iterator[str]:
    """The official manager as root, with the same template and mapping; its endpoint's uuid."""
    program = world.prefix / "peer" / "bin" / AGENT
    if not program.exists():
        pytest.skip(f"needs {AGENT} in an environment of its own; make test installs it")
    home = world.folder / "peer"
    home.mkdir()
    local = templates.LOCAL.replace("provider:", "address: 127.0.0.1\n  provider:")
    environment = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    endpoint_folder(home / "manager", Setup(local + templates.IDLE, environment=environment))
    with ExitStack() as stack:
        login = {
            "HOME": str(home),
            "PATH": f"{program.parent}:/usr/sbin:/usr/bin:/sbin:/bin",
            "GLOBUS_COMPUTE_USER_DIR": str(home),
            "GLOBUS_COMPUTE_CLIENT_ID": world.service.login.client_id,
            "GLOBUS_COMPUTE_CLIENT_SECRET": world.service.login.secret,
            "GLOBUS_SDK_SERVICE_URL_AUTH": URL,
        }
        daemon = Daemon(AGENT, [program, "start", "manager"], world.folder / "peer.log", environment=login)
        stack.callback(daemon.stop)
        yield _endpoint_id(daemon, home / "manager")


def _endpoint_id(daemon: Daemon, folder: Path) -> str:
    known = folder / "endpoint.json"
    daemon.wait_until(lambda: known.exists() and known.read_text(), 60, "register")
    endpoint_id: str = json.loads(known.read_text())["endpoint_id"]
    return endpoint_id


def test_the_job(world: World, agent: str) -> None:
    first = world.script(ADA, agent, {"account_id": "one"}, {"account_id": "two"})
    second = world.script(BOB, agent, {"account_id": "three"})
    results = [outcome.result or outcome.error for script in (first, second) for outcome in script.outcomes(180)]
    seen = {(result["uid"], result["directory"]) for result in results if isinstance(result, dict)}
    ada, bob = (world.accounts[name].pw_uid for name in ("twl-ada", "twl-bob"))
    assert seen == {(ada, "one"), (ada, "two"), (bob, "three")}, results


def test_the_reason_of_a_refusal(world: World, agent: str) -> None:
    (outcome,) = world.run(ADA, agent, {})
    assert "account_id" in (outcome.error or "")
