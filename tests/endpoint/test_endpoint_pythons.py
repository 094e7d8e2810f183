"""A task with bytecode of another Python version fails in any way; its user is told both versions, whatever it is."""

import base64
import inspect
import os
import platform
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running
from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import Task
from globus_compute_sdk.serialize import (
    AllCodeStrategies,
    CombinedCode,
    ComputeSerializer,
    DillCode,
    DillCodeSource,
    PureSourceTextInspect,
)
from twinlock_endpoint.worker.execute import execute_task

TASK = str(uuid.uuid4())
OTHER = "3.6.1"
SENTENCE = f"comes from Python {OTHER}, and the workers have Python {platform.python_version()}"


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    os.chdir("/")


def body(strategy: Any, function: Callable[..., Any], *args: Any, change: tuple[bytes, bytes] = (b"", b"")) -> bytes:
    """A packed task, the function serialized in this way and changed there."""
    serializer = ComputeSerializer(strategy_code=strategy)
    everything: tuple[Any, ...] = (function, args, {})
    parts = [serializer.serialize(part) for part in everything]
    identifier, _, payload = parts[0].partition("\n")
    if change[0]:
        code = base64.b64decode(payload)
        assert change[0] in code
        parts[0] = f"{identifier}\n{base64.b64encode(code.replace(*change)).decode()}"
    return bytes(pack(Task(task_id=TASK, task_buffer=serializer.pack_buffers(parts))))


def failure(tmp_path: Path, packed: bytes, version: str = OTHER) -> str:
    """What the user is told of it."""
    done = unpack(execute_task(packed, TASK, str(uuid.uuid4()), run_dir=str(tmp_path), users_python=version))
    assert done.error_details is not None
    return str(done.data)


def fails(kind: str) -> None:
    raise {"system": SystemError, "value": ValueError, "exit": SystemExit, "type": TypeError}[kind]("it failed")


def of_a_script(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function as one of a user's script, which workers can't import."""
    script: dict[str, Any] = {"__name__": "__main__"}
    exec(inspect.getsource(function), script)
    made: Callable[..., Any] = script[function.__name__]
    return made


def calls(function: Callable[[], Any]) -> Any:
    return function()


@pytest.mark.parametrize("kind", ["system", "value", "exit", "type"])
def test_whatever_it_raises(tmp_path: Path, kind: str) -> None:
    text = failure(tmp_path, body(DillCode(), of_a_script(fails), kind))
    assert "it failed" in text
    assert SENTENCE in text


def test_bytecode_that_this_version_does_not_know(tmp_path: Path) -> None:
    """All its instructions are one that no version has ever had."""
    unknown = fails.__code__.co_code
    text = failure(
        tmp_path, body(DillCode(), of_a_script(fails), "value", change=(unknown, b"\xff\x00" * (len(unknown) // 2)))
    )
    assert SENTENCE in text


def test_bytecode_that_cannot_even_be_loaded(tmp_path: Path) -> None:
    text = failure(
        tmp_path, body(DillCode(), of_a_script(fails), "value", change=(b"_create_function", b"_create_functi0n"))
    )
    assert SENTENCE in text


def fails_at_once() -> None:
    raise ValueError("it failed")


def test_bytecode_among_the_arguments(tmp_path: Path) -> None:
    assert SENTENCE in failure(tmp_path, body(PureSourceTextInspect(), calls, of_a_script(fails_at_once)))


@pytest.mark.parametrize("strategy", [PureSourceTextInspect, DillCodeSource, AllCodeStrategies, CombinedCode])
def test_source_code_is_the_same_in_all_versions(tmp_path: Path, strategy: Any) -> None:
    assert SENTENCE not in failure(tmp_path, body(strategy(), fails, "value"))


@pytest.mark.parametrize("version", ["", platform.python_version(), platform.python_version().rpartition(".")[0]])
def test_nothing_is_said_where_the_versions_do_not_differ_or_are_not_known(tmp_path: Path, version: str) -> None:
    assert "comes from Python" not in failure(tmp_path, body(DillCode(), of_a_script(fails), "value"), version)


LOCAL = "engine: {type: GlobusComputeEngine, max_workers_per_node: 1}\n"
THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
SHELL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1, worker_init: "unset GC_USER_PYTHON_VERSION"}
"""


@pytest.mark.cases(1)
@pytest.mark.system
@pytest.mark.parametrize("config", [LOCAL, THREADS, SHELL], ids=["forked", "threads", "without the variable"])
def test_every_engine_tells_its_workers_the_users_version(
    endpoint: Callable[..., Running], queues: Queues, config: str
) -> None:
    endpoint(config, environment={"GC_USER_PYTHON_VERSION": OTHER})
    task_id = str(uuid.uuid4())
    queues.publish(
        body(DillCode(), of_a_script(fails), "system").replace(TASK.encode(), task_id.encode()), task_uuid=task_id
    )
    text = queues.result(task_id).data
    assert "SystemError: it failed" in text
    assert SENTENCE in text
