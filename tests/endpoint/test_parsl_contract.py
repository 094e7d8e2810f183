"""Parsl's releases: those of the range do what Twinlock expects of them, any other is refused, and nodes have more."""

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, until, value
from twinlock_endpoint.htex.compat.check import NEWEST, OLDEST

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PREFIX = Path(sys.prefix)
RELEASES = [os.environ["TWINLOCK_PARSL"]] if "TWINLOCK_PARSL" in os.environ else [OLDEST, NEWEST]
"""`make parsl-next` asks for `newest`, the newest release at the registry."""
BELOW = "2026.10.12"
"""The release before the oldest one of the range."""
ON_NODES = ["2026.6.1", *RELEASES]
"""The oldest release that nodes may have, and those of the range."""
BEFORE_NODES = "2026.5.25"
SENTENCE = f"Parsl {BELOW} is not supported; this release of Twinlock works with {OLDEST} to {NEWEST}."

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 2
  heartbeat_period: 1
  heartbeat_threshold: 120
  provider: {{type: LocalProvider{more}}}
"""
LOADED = """
import json
from twinlock_endpoint.htex import lazy_imports
from twinlock_endpoint.htex.compat import check
with lazy_imports.parsl():
    print(json.dumps([check.installed(), [use.name for use in check.USES if not use.is_there()]]))
"""


def programs(release: str) -> Path:
    """The folder with the programs of an environment that has this release."""
    script = ROOT / "packaging/parsl"
    subprocess.run([script, PREFIX, release], check=True, stdout=subprocess.DEVNULL, timeout=600)
    return PREFIX / "parsl" / release / "bin"


def installed(release: str) -> str:
    """The release that its environment has."""
    return (programs(release).parent / ".release").read_text().strip()


def about(count: int) -> tuple[str, int]:
    """The Parsl of the worker, and a number."""
    import parsl.version

    return parsl.version.VERSION.replace(".0", "."), count + 1


def fail() -> None:
    raise ValueError("as it should")


def die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGKILL)


def test_the_package_asks_for_the_range_that_is_checked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"parsl>={OLDEST},<={NEWEST}" in project["optional-dependencies"]["endpoint"]


@pytest.mark.parametrize("release", RELEASES)
def test_all_that_is_used_of_parsl_is_there(release: str) -> None:
    done = subprocess.run([programs(release) / "python", "-c", LOADED], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [installed(release), []]


@pytest.mark.cases(2)
@pytest.mark.parametrize("more", ["", ", worker_init: 'true'"], ids=["forked", "as programs"])
@pytest.mark.parametrize("release", RELEASES)
def test_tasks_run_fail_and_are_lost_as_they_should(
    endpoint: Callable[..., Running], queues: Queues, release: str, more: str
) -> None:
    """In workers that are forks, and in those of Parsl's own pool; then the endpoint ends in order.

    In Parsl's pool a worker that is killed while it still sends the result before leaves a lock that nobody opens.
    """
    running = endpoint(LOCAL.format(more=more), program=programs(release) / "twinlock-endpoint")
    done = [queues.submit(about, number) for number in range(20)]
    failed = queues.submit(fail)
    told = [value(queues.result(task)) for task in done]
    assert [number for _, number in told] == list(range(1, 21))
    assert {version for version, _ in told} == {installed(release)}
    assert "as it should" in queues.result(failed).data
    assert "WorkerLost" in queues.result(queues.submit(die)).data
    assert value(queues.result(queues.submit(about, 1)))[1] == 2
    running.signal()
    assert running.end().code == 0
    assert "Traceback" not in running.log()


def test_a_release_below_the_range_is_refused_in_one_sentence(endpoint: Callable[..., Running]) -> None:
    end = endpoint(LOCAL.format(more=""), program=programs(BELOW) / "twinlock-endpoint").end()
    assert end.code == os.EX_CONFIG
    assert SENTENCE in end.said


def test_the_check_says_so_beforehand() -> None:
    """Of what doesn't need Parsl as well as of what does."""
    configs = [LOCAL.format(more=""), "engine: {type: ThreadPoolEngine}"]
    asked = json.dumps({"configs": configs, "environment": {}, "audited": False})
    command = [str(programs(BELOW) / "twinlock-endpoint"), "--check"]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"wrong": SENTENCE}, {}]


def in_their_python(release: str, launcher: str) -> str:
    """A configuration whose workers have a Python with this release."""
    more = f", worker_init: 'export PATH={programs(release)}:$PATH', launcher: {launcher}"
    return LOCAL.format(more=more)


@pytest.mark.thorough
@pytest.mark.parametrize("launcher", ["{type: SimpleLauncher}", "{type: WrappedLauncher, prepend: ''}"])
@pytest.mark.parametrize("release", ON_NODES)
def test_nodes_may_have_another_release(
    endpoint: Callable[..., Running], queues: Queues, release: str, launcher: str
) -> None:
    """Where the pool runs over a connection that loses nothing, and where it runs as it is."""
    endpoint(in_their_python(release, launcher))
    told = [value(queues.result(task)) for task in [queues.submit(about, number) for number in range(5)]]
    assert [number for _, number in told] == list(range(1, 6))
    assert {version for version, _ in told} == {installed(release)}
    assert "WorkerLost" in queues.result(queues.submit(die)).data


def test_the_user_is_told_that_a_node_has_too_old_a_release(endpoint: Callable[..., Running], queues: Queues) -> None:
    """By what its pool printed as it ended."""
    running = endpoint(in_their_python(BEFORE_NODES, "{type: SimpleLauncher}"))
    told: Any = queues.result(queues.submit(about, 1)).data
    assert "unrecognized arguments: --logconf" in told
    until(lambda: running.process.poll() is not None)


@pytest.mark.parametrize("patch", sorted((ROOT / "docs/parsl").glob("*.patch")), ids=lambda path: path.stem)
def test_hooks_that_are_proposed_fit_the_newest_release(patch: Path) -> None:
    site = next((programs(NEWEST).parent / "lib").glob("python3*/site-packages"))
    subprocess.run(["patch", "--dry-run", "--strip=1", "--fuzz=0", f"--input={patch}"], cwd=site, check=True)


@pytest.mark.parametrize("page", ["parsl.md", "users.md"])
def test_the_manuals_name_the_range(page: str) -> None:
    text = (ROOT / "docs" / page).read_text()
    assert f"to {NEWEST}" in text
    assert ON_NODES[0] in text
