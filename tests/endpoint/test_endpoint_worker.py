"""One task in a worker: what the function finds and what the result says."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import task_body, value
from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import EPStatusReport
from globus_compute_sdk.errors import TaskExecutionFailed
from twinlock_endpoint.htex.bundle import with_code
from twinlock_endpoint.worker import environment
from twinlock_endpoint.worker.execute import execute_task

TASK = str(uuid.uuid4())
ENDPOINT = str(uuid.uuid4())
DATA = "globus_compute_sdk.serialize.concretes."
ON_A_NODE = """
import importlib, sys
execute = getattr(importlib.import_module("twinlock_endpoint.worker"), "execute_task")
body, *ids, folder = sys.argv[1:]
sys.stdout.buffer.write(execute(bytes.fromhex(body), *ids, run_dir=folder))
"""
"""How Parsl's worker finds the function, by the name that tasks of every release have for it."""


@pytest.fixture(autouse=True)
def _own_folder_and_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    for name in ("GC_TASK_UUID", "GC_TASK_SANDBOX_DIR"):
        monkeypatch.setenv(name, "before")
    yield
    os.chdir("/")


def run(tmp_path: Path, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
    options = {"run_dir": str(tmp_path / "work"), **options}
    return unpack(execute_task(task_body(TASK, function, *args), TASK, ENDPOINT, **options))


def add(one: int, other: int) -> int:
    return one + other


def surroundings() -> dict[str, str | None]:
    import os

    names = ("GC_TASK_UUID", "GC_TASK_SANDBOX_DIR")
    return {"cwd": os.getcwd(), **{name: os.environ.get(name) for name in names}}


def as_a_program_sees_it() -> str:
    import subprocess

    return subprocess.run(["printenv", "GC_TASK_UUID"], check=True, capture_output=True, text=True).stdout.strip()


def resident_memory(times: int) -> int:
    """Bytes, after so many tasks."""
    for _ in range(times):
        environment.put("GC_TASK_UUID", str(uuid.uuid4()))
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def fail() -> None:
    raise LookupError("not there")


def leave() -> None:
    import sys

    sys.exit(3)


def characters(character: str, times: int) -> str:
    return character * times


def repeat(size: int) -> str:
    return "x" * size


def spin(times: int) -> int:
    return sum(1 for _ in range(times))


def test_a_value_comes_back(tmp_path: Path) -> None:
    result = run(tmp_path, add, 1, 2)
    assert value(result) == 3
    assert str(result.task_id) == TASK
    assert [(step.actor, step.state) for step in result.task_statuses] == [
        ("worker", "execution-start"),
        ("worker", "execution-end"),
    ]
    assert {"os", "python_version", "dill_version", "globus_compute_sdk_version"} <= result.details.keys()
    assert result.details["endpoint_id"] == ENDPOINT


def test_tasks_share_the_working_folder(tmp_path: Path) -> None:
    seen = value(run(tmp_path, surroundings))
    assert seen == {"cwd": str(tmp_path / "work"), "GC_TASK_UUID": TASK, "GC_TASK_SANDBOX_DIR": None}


def test_a_sandbox_is_a_folder_of_the_tasks_own(tmp_path: Path) -> None:
    sandbox = str(tmp_path / "work" / TASK)
    seen = value(run(tmp_path, surroundings, run_in_sandbox=True))
    assert (seen["cwd"], seen["GC_TASK_SANDBOX_DIR"]) == (sandbox, sandbox)


def test_a_program_that_a_task_starts_knows_the_task(tmp_path: Path) -> None:
    for task in (str(uuid.uuid4()) for _ in range(2)):
        body = task_body(task, as_a_program_sees_it)
        assert value(unpack(execute_task(body, task, ENDPOINT, run_dir=str(tmp_path)))) == task


def test_a_variable_of_any_length_and_none_that_would_be_cut() -> None:
    for length in (600, 3, 70_000):
        environment.put("GC_TASK_SANDBOX_DIR", "x" * length)
        assert os.environ["GC_TASK_SANDBOX_DIR"] == "x" * length
        assert subprocess.run(["printenv", "GC_TASK_SANDBOX_DIR"], capture_output=True).stdout == b"x" * length + b"\n"
    with pytest.raises(ValueError, match="GC_TASK_SANDBOX_DIR can't contain"):
        environment.put("GC_TASK_SANDBOX_DIR", "a\0b")


def test_a_worker_keeps_nothing_of_its_tasks_names() -> None:
    before = resident_memory(1000)
    assert resident_memory(100_000) - before < 100_000 * 20, "bytes"


def test_an_exception_starts_in_the_users_function(tmp_path: Path) -> None:
    result = run(tmp_path, fail)
    assert result.error_details.code == "RemoteExecutionError"
    assert "LookupError: not there" in result.data
    assert "in fail" in result.data
    assert "execute.py" not in result.data


def test_a_function_that_exits_ends_itself_only(tmp_path: Path) -> None:
    assert "SystemExit: 3" in run(tmp_path, leave).data


def test_a_result_over_the_limit(tmp_path: Path) -> None:
    result = run(tmp_path, repeat, 2000, result_limit=1000)
    assert result.error_details.code == "MaxResultSizeExceeded"
    assert "limit of 1000B" in result.error_details.user_message


@pytest.mark.parametrize(
    ("character", "strategy"), [('"', "JSONData"), ("\\", "JSONData"), ("é", "JSONData"), ("x", "DillDataBase64")]
)
def test_the_limit_is_for_what_is_sent(tmp_path: Path, character: str, strategy: str) -> None:
    """JSON in a JSON message has its quotes escaped twice."""
    for times in range(100, 2000, 50):
        result = run(tmp_path, characters, character, times, result_limit=2000, result_serializers=(DATA + strategy,))
        if result.error_details is None:
            assert len(json.dumps(result.data)) <= 2000 + len('""')
        else:
            assert result.error_details.code == "MaxResultSizeExceeded"
    assert result.error_details is not None


def test_what_to_do_about_a_large_result(tmp_path: Path) -> None:
    """9 MB of text are 12 MB as dill and base64 have it; users see both numbers and a way out."""
    result = run(tmp_path, repeat, 9_000_000)
    assert result.data.startswith("MaxResultSizeExceeded(")
    size = int(result.data.partition("(")[2].partition(",")[0])
    assert size > 12_000_000
    assert f"{size:,} bytes" in result.data
    assert "at most 10,485,760 bytes" in result.data
    assert "Write large results to a file" in result.data
    assert str(TaskExecutionFailed(result.data)).strip() == result.data, "the SDK has no other advice"


def test_ten_mebibytes_are_the_limit(tmp_path: Path) -> None:
    assert run(tmp_path, repeat, 7 * 2**20).error_details is None
    assert run(tmp_path, repeat, 11 * 2**20).error_details.code == "MaxResultSizeExceeded"


def test_a_function_under_a_time_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GC_TASK_TIMEOUT", "0.05")
    assert "AppTimeout" in run(tmp_path, spin, 10**9).data


def test_nodes_get_all_the_code_that_a_task_needs(tmp_path: Path) -> None:
    with_code("process_worker_pool.py", tmp_path, "PBSProProvider", "SimpleLauncher")
    arguments = [task_body(TASK, add, 1, 2).hex(), TASK, ENDPOINT, str(tmp_path / "work")]
    done = subprocess.run(
        [sys.executable, "-P", "-c", ON_A_NODE, *arguments],
        env={"PYTHONPATH": str(tmp_path / "worker_code"), "GC_TASK_TIMEOUT": "60"},
        stdout=subprocess.PIPE,
        check=True,
    )
    assert value(unpack(done.stdout)) == 3


def test_serializers_that_are_not_allowed(tmp_path: Path) -> None:
    allowed = (DATA + "DillCode", DATA + "JSONData")
    assert "disabled by current" in run(tmp_path, add, 1, 2, task_deserializers=allowed).data


def test_the_result_is_serialized_as_asked(tmp_path: Path) -> None:
    result = run(tmp_path, add, 1, 2, result_serializers=(DATA + "JSONData",))
    assert result.data.endswith("\n3")


def test_a_message_that_is_no_task(tmp_path: Path) -> None:
    report = pack(EPStatusReport(endpoint_id=ENDPOINT, global_state={}, task_statuses={}))
    for body in (report, b"\x01{}", b"", b"\x07"):
        result = unpack(execute_task(body, TASK, ENDPOINT, run_dir=str(tmp_path)))
        assert result.error_details is not None


def test_a_folder_that_cannot_be_made_is_the_tasks_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "NotADirectoryError" in run(tmp_path, add, 1, 2, run_dir=str(tmp_path / "file" / "x")).data
