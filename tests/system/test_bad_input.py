"""Bad input of every kind: its sender sees the reason, the broker and everyone else's endpoints go on."""

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

import psutil
import pytest
from site_rig import ADA, BOB, DAEMON, GHOST, ROOT, STRANGER, Launch, World
from twinlock_testbed.daemons import DaemonError
from twinlock_testbed.manager import Manager, Setup

pytestmark = pytest.mark.system

TEMPLATE = """\
{% if no_engine|default(false) %}
display_name: x
{% elif broken|default(false) %}
engine: {type: [ThreadPoolEngine
{% else %}
engine:
  type: {{ engine|default("ThreadPoolEngine") }}
  max_workers: {{ workers }}
{% endif %}
"""
SCHEMA = {"type": "object", "properties": {"workers": {"type": "integer", "maximum": 4}}}
GOOD = {"workers": 1}


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager with a schema, and a template that can go wrong."""
    return launch("bad-input", Setup(TEMPLATE, {"user_config_schema.json": json.dumps(SCHEMA)}))


@pytest.fixture(autouse=True)
def everyone_else_goes_on(world: World, endpoint: Manager) -> Iterator[None]:
    """Another user's endpoint works before and after, and it is the same one; the broker is the same process."""
    before = world.run(BOB, endpoint, GOOD)[0]
    assert before.result is not None, before.error
    yield
    assert psutil.pid_exists(endpoint.broker.pid)
    after = world.run(BOB, endpoint, GOOD)[0]
    assert after.result is not None, after.error
    assert after.result["pid"] == before.result["pid"]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("who", "config", "reason"),
    [
        (STRANGER, GOOD, "carol@elsewhere.example|not mapped|no local (user|account)"),
        (GHOST, GOOD, "twl-ghost"),
        (ROOT, GOOD, "root"),
        (DAEMON, GOOD, "daemon"),
        (ADA, {}, "workers"),
        (ADA, {"workers": 5}, "workers|maximum"),
        (ADA, {"workers": 1, "broken": True}, "YAML"),
        (ADA, {"workers": 1, "no_engine": True}, "engine"),
        (ADA, {"workers": 1, "engine": "NoSuchEngine"}, "NoSuchEngine"),
        (ADA, {"workers": "one: {", "engine": "ThreadPoolEngine"}, "workers"),
    ],
    ids=["nobody", "ghost", "root", "system", "missing", "schema", "broken-yaml", "no-engine", "engine-type", "value"],
)
def test_the_sender_sees_the_reason(
    world: World, endpoint: Manager, who: str, config: Mapping[str, Any], reason: str
) -> None:
    (outcome,) = world.run(who, endpoint, config)
    assert outcome.result is None
    assert re.search(reason, outcome.error or ""), outcome.error


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (("/bin/sh", "-c", "echo the disk is full of bees >&2; exit 3"), "full of bees"),
        (("/bin/sh", "-c", "kill -9 $$"), "signal 9"),
    ],
    ids=["dies", "killed"],
)
def test_an_endpoint_program_that_does_not_start(
    world: World, launch: Launch, endpoint: Manager, program: tuple[str, ...], reason: str, request: Any
) -> None:
    broken = launch(f"program-{request.node.callspec.id}", Setup(TEMPLATE, program=program))
    (outcome,) = world.run(ADA, broken, GOOD)
    assert outcome.result is None
    assert reason in (outcome.error or ""), outcome.error
    assert psutil.pid_exists(broken.broker.pid)


def test_an_endpoint_program_that_was_removed(world: World, launch: Launch, endpoint: Manager) -> None:
    program = world.folder / "removed"
    shutil.copy("/bin/true", program)
    broken = launch("program-removed", Setup(TEMPLATE, program=(str(program),)))
    program.unlink()
    (outcome,) = world.run(ADA, broken, GOOD)
    assert outcome.result is None
    assert "program is missing" in (outcome.error or ""), outcome.error
    assert str(program) not in (outcome.error or "")
    assert psutil.pid_exists(broken.broker.pid)


def test_an_endpoint_program_that_never_was_there(launch: Launch, endpoint: Manager) -> None:
    with pytest.raises(DaemonError, match=r"ended with 78(.|\n)*: '/nonexistent'"):
        launch("program-missing", Setup(TEMPLATE, program=("/nonexistent/endpoint",)))
