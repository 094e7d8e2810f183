"""Endpoints with unfinished tasks come back, whoever was killed: themselves, the spawner, the broker."""

from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from site_rig import ADA, RESULT_TIMEOUT, Launch, World, eventually
from twinlock_testbed.manager import Manager, Setup
from twinlock_testbed.processes import endpoints

pytestmark = pytest.mark.system

TEMPLATE = """\
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  working_dir: {{ account_id }}
  provider:
    type: LocalProvider
    init_blocks: 1
    max_blocks: 1
    worker_init: 'while [ ! -e GATE ]; do sleep 0.05; done'
"""


@pytest.fixture
def gate(world: World) -> Path:
    """When this file is there, workers start."""
    return world.folder / "gate"


@pytest.fixture(scope="module")
def endpoint(launch: Launch, world: World) -> Manager:
    """A manager whose endpoints have tasks in work, and no worker that has begun with one, until the gate opens."""
    template = TEMPLATE.replace("GATE", str(world.folder / "gate"))
    return launch("revival", Setup(template))


def next_endpoint(manager: Manager, before: psutil.Process | None) -> psutil.Process:
    """The endpoint that has the tasks in its journal, in a process that isn't that of `before`."""
    found: list[psutil.Process] = []

    def there() -> bool:
        found[:] = [one for one in endpoints(manager.spawner.pid) if one != before]
        return bool(found)

    assert eventually(there, 180)
    return found[0]


def has_tasks(manager: Manager) -> bool:
    """Whether the broker knows that an endpoint has unfinished tasks in its journal."""
    records = (manager.folder / "broker" / "endpoints").glob("*.json")
    with suppress(FileNotFoundError):  # an endpoint has ended meanwhile
        return any('"owes": true' in path.read_text() for path in records)
    return False


def test_no_task_is_lost_with_endpoint_spawner_or_broker(world: World, endpoint: Manager, gate: Path) -> None:
    script = world.script(ADA, endpoint.endpoint_id, {"account_id": "revived"}, tasks=3)
    first = next_endpoint(endpoint, None)
    assert eventually(lambda: has_tasks(endpoint), 180)
    first.kill()
    second = next_endpoint(endpoint, first)
    endpoint.broker.kill()
    endpoint.start_broker()
    endpoint.spawner.kill()
    assert eventually(lambda: not second.is_running(), 180)
    endpoint.socket.unlink()
    endpoint.start_spawner()
    next_endpoint(endpoint, second)
    gate.touch()
    outcomes = script.outcomes(RESULT_TIMEOUT)
    assert [outcome.error for outcome in outcomes] == [None] * 3
