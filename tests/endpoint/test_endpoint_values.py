"""What a task returns comes back whole, to a Python that knows nothing of ours."""

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running
from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import Task
from globus_compute_sdk.serialize.concretes import SELECTABLE_CODE_STRATEGIES

pytestmark = [pytest.mark.system, pytest.mark.peer]

SCRIPT, RESULTS = (Path(__file__).parent.parent / "helpers" / name for name in ("users_script.py", "users_results.py"))
LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1}
"""
ENGINES = {
    "forked": LOCAL,
    "programs": LOCAL.replace("max_blocks: 1}", "max_blocks: 1, worker_init: 'true'}"),
    "threads": "engine: {type: ThreadPoolEngine, max_workers: 1}\n",
    "processes": "engine: {type: ProcessPoolEngine, max_workers: 1}\n",
}


STRATEGIES = [strategy.__name__ for strategy in SELECTABLE_CODE_STRATEGIES]
VALUES = ["a_lambda", "a_partial", "an_instance", "a_closure", "a_class", "an_exception"]


@pytest.fixture(scope="module")
def buffers(peer: Path) -> dict[str, str]:
    """A user's functions, in each form in which the SDK sends them, by strategy and name."""
    return run_elsewhere(peer, SCRIPT, {})


def run_elsewhere(peer: Path, program: Path, given: dict[str, Any]) -> dict[str, Any]:
    """Run a program in the Python of the official agent, in which there is none of our packages."""
    words = [str(peer / "python"), "-I", str(program)]
    done = subprocess.run(words, input=json.dumps(given), capture_output=True, text=True, check=True)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.cases(2)
@pytest.mark.parametrize("engine", ENGINES)
def test_values_that_tasks_make_come_back(
    endpoint: Callable[..., Running], queues: Queues, peer: Path, buffers: dict[str, str], engine: str
) -> None:
    endpoint(ENGINES[engine])
    tasks = {name: str(uuid.uuid4()) for name in buffers}
    for name, task in tasks.items():
        queues.publish(pack(Task(task_id=task, task_buffer=buffers[name])), task_uuid=task)
    data = {name: queues.result(task).data for name, task in tasks.items()}
    raised = [data.pop(name) for name in list(data) if name.endswith(" raising")]
    assert {text.splitlines()[-1].rpartition(".")[2] for text in raised} == {"OwnError: raised here"}
    seen = run_elsewhere(peer, RESULTS, data)
    found = {name: seen.pop(name) for name in list(seen) if name.endswith(" names")}
    assert seen == dict.fromkeys(seen, 21 * 2)
    assert len(seen) == len(STRATEGIES) * len(VALUES)
    if engine != "programs":  # there Parsl's own program is the main module
        assert {name for names in found.values() for name in names} <= {"names"}
    assert "twinlock" not in str(found)
