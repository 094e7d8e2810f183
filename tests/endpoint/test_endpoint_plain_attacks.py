"""What plain mode doesn't keep: the attempts at which verified mode runs nothing, and here each runs as the user.

Whoever has the broker, the service or a queue needs no more than this; THREATS.md names these tests.
"""

import os
import pwd
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import NOBODY, Queues, Running, task_body, value
from endpoint_tasks import double, note
from globus_compute_common.messagepack import pack
from globus_compute_common.messagepack.message_types import Task
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect

pytestmark = pytest.mark.system

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\nheartbeat_period: 5\n"


@pytest.fixture
def trace(home: Path) -> Path:
    """A path in the user's home, at which there is something when somebody else's code has run."""
    return home / "trace"


class MakeFolder:
    """A value that makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._path),))


def variable(name: str) -> str | None:
    import os

    return os.environ.get(name)


def test_plain_mode_runs_what_the_broker_says(
    endpoint: Callable[..., Running], queues: Queues, home: Path, trace: Path
) -> None:
    """A command and variables of the start document; and nobody has submitted anything."""
    endpoint(f"{THREADS}endpoint_setup: id -un > {trace}\n", environment={"EVIL": "1"})
    queues.heartbeat()
    assert trace.read_text() == f"{pwd.getpwuid(NOBODY).pw_name}\n"
    assert value(queues.result(queues.submit(variable, "EVIL"))) == "1"


def test_plain_mode_runs_what_the_service_says(endpoint: Callable[..., Running], queues: Queues, trace: Path) -> None:
    """A task that no user has submitted, and the same one again under another uuid."""
    endpoint(THREADS)
    for _ in range(2):
        task = str(uuid.uuid4())
        queues.publish(task_body(task, note, str(trace), 1), task_uuid=task)
        assert value(queues.result(task)) == 1
    assert trace.read_text() == "1\n1\n"
    assert trace.stat().st_uid == NOBODY


def test_plain_mode_runs_what_a_queue_holds(endpoint: Callable[..., Running], queues: Queues, trace: Path) -> None:
    """A user's function whose arguments somebody has replaced by a pickle."""
    endpoint(THREADS)
    task = str(uuid.uuid4())
    function = ComputeSerializer(strategy_code=PureSourceTextInspect()).serialize(double)
    serializer = ComputeSerializer()
    arguments = [serializer.serialize((MakeFolder(trace),)), serializer.serialize({})]
    buffers = ComputeSerializer.pack_buffers([function, *arguments])
    queues.publish(pack(Task(task_id=task, task_buffer=buffers)), task_uuid=task)
    queues.result(task)
    assert trace.is_dir()
    assert trace.stat().st_uid == NOBODY
