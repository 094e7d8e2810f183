"""Whole endpoints on a real RabbitMQ: tasks and their answers."""

import os
import platform
import signal
import stat
import uuid
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import version
from operator import itemgetter
from pathlib import Path

import psutil
import pytest
from endpoint_rig import LIMIT_S, NOBODY, Queues, Running, task_body, until, value
from endpoint_tasks import double, note, wait_for

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  heartbeat_period: 1
  heartbeat_threshold: 120
  provider: {type: LocalProvider, max_blocks: 1}
"""
THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
PROCESSES = "engine: {type: ProcessPoolEngine, max_workers: 2}\n"


def surroundings() -> dict[str, object]:
    import os
    import shutil

    return {
        "uid": os.getuid(),
        "cwd": os.getcwd(),
        "mine": os.environ.get("MINE"),
        "path": os.environ["PATH"],
        "pool": shutil.which("process_worker_pool.py"),
    }


def die() -> None:
    import os

    os.kill(os.getpid(), 9)


def parent() -> int:
    import os

    return os.getppid()


def die_once(marker: str) -> str:
    import os
    import pathlib

    if not pathlib.Path(marker).exists():
        pathlib.Path(marker).touch()
        os.kill(os.getpid(), 9)
    return "second attempt"


@pytest.mark.parametrize("config", [LOCAL, THREADS, PROCESSES])
def test_tasks_are_run_and_nothing_is_left_behind(
    endpoint: Callable[..., Running], queues: Queues, config: str
) -> None:
    running = endpoint(config)
    tasks = [queues.submit(double, number) for number in range(50)]
    assert [value(queues.result(task)) for task in tasks] == [2 * number for number in range(50)]
    running.signal()
    end = running.end()
    assert (end.code, end.left, end.said) == (0, [], "")
    until(lambda: not queues.waiting_tasks())


def test_heartbeats_say_who_and_what(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(LOCAL, ep_info={"posix_ppid": 17, "globus_matched_identity": "an-identity"})
    value(queues.result(queues.submit(double, 1)))
    first = queues.figures()
    assert (first["posix_ppid"], first["globus_matched_identity"]) == (17, "an-identity")
    assert (first["posix_username"], first["posix_uid"], first["posix_gid"]) == ("nobody", NOBODY, NOBODY)
    assert (first["posix_pid"], first["posix_sid"], first["posix_groups"]) == (running.pid, running.pid, [])
    assert (first["config_raw"], first["heartbeat_period"], first["active"]) == (LOCAL, 30, True)
    assert {"start_iso", "start_unix"} <= first.keys()
    assert (first["engine_type"], first["provider_type"]) == ("GlobusComputeEngine", "LocalProvider")
    assert (first["max_blocks"], first["min_blocks"], first["scaling_enabled"]) == (1, 0, True)
    running.signal()
    last = queues.heartbeat(last=True)
    assert (last["heartbeat_period"], last["active"]) == (0, False)
    assert running.end().code == 0


def test_the_folder_is_the_users_alone(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(THREADS)
    queues.heartbeat()
    for path in (running.folder, *running.folder.iterdir()):
        with suppress(FileNotFoundError):  # a file is written beside its place first
            info = path.stat()
            assert info.st_uid == NOBODY
            assert stat.S_IMODE(info.st_mode) & 0o077 == 0, path


@pytest.mark.parametrize("config", [LOCAL, PROCESSES])
def test_what_a_function_finds(endpoint: Callable[..., Running], queues: Queues, config: str) -> None:
    running = endpoint(config, environment={"MINE": "set by the administrator"})
    seen = value(queues.result(queues.submit(surroundings)))
    assert (seen["uid"], seen["mine"]) == (NOBODY, "set by the administrator")
    assert seen["cwd"] == str(running.folder / "tasks_working_dir")
    # The site's own programs come first; Parsl's worker pool is found all the same.
    assert seen["path"].startswith("/usr/local/bin:/usr/bin:/bin:")
    assert seen["pool"]


def python() -> str:
    import sys

    return sys.prefix


@pytest.mark.peer
def test_workers_may_run_in_an_environment_that_has_the_peers_agent_only(
    endpoint: Callable[..., Running], queues: Queues, peer: Path
) -> None:
    own_python = LOCAL.replace("max_blocks: 1", f"max_blocks: 1, worker_init: 'export PATH={peer}:$PATH'")
    endpoint(f"{own_python}heartbeat_period: 5\n")
    assert Path(value(queues.result(queues.submit(python)))) == peer.parent
    while not (jobs := queues.figures()["node_info"]):
        pass
    ((node,),) = jobs.values()
    assert node["endpoint_version"] == version("globus-compute-sdk"), "the agent's, which is the SDK's"


def test_only_allowed_functions_run(endpoint: Callable[..., Running], queues: Queues) -> None:
    allowed, other = str(uuid.uuid4()), str(uuid.uuid4())
    endpoint(THREADS, allowed_functions=[allowed.upper()])
    tasks = {function: str(uuid.uuid4()) for function in (allowed, other)}
    for function, task in tasks.items():
        queues.publish(task_body(task, double, 4), task_uuid=task, function_uuid=function)
    assert value(queues.result(tasks[allowed])) == 8
    refused = queues.result(tasks[other])
    assert refused.error_details.code == "FUNCTION_NOT_ALLOWED"
    assert f"Function {other} not permitted on endpoint" in refused.error_details.user_message


def test_bad_messages_are_answered_where_that_is_possible(endpoint: Callable[..., Running], queues: Queues) -> None:
    named = [str(uuid.uuid4()) for _ in range(4)]
    queues.publish(b"", task_uuid=None)
    queues.publish(b"\x01{}", task_uuid="not-a-uuid")
    queues.publish(b"garbage", task_uuid=named[0])
    queues.publish(b"\x01{garbage", task_uuid=named[1])
    queues.publish(task_body(named[2], double, 1), task_uuid=named[2], resource_specification="{broken")
    queues.publish(task_body(named[3], double, 1), task_uuid=named[3], resource_specification='{"num_nodes": 2}')
    unnamed = str(uuid.uuid4())
    queues.publish(task_body(unnamed, double, 5), task_uuid=None)
    running = endpoint(THREADS)
    assert value(queues.result(unnamed)) == 10
    for task in named:
        assert queues.result(task).error_details.code == "RemoteExecutionError"
    assert "Failed to start task" in queues.result(named[3]).data
    running.signal()
    assert running.end().code == 0
    until(lambda: not queues.waiting_tasks())


@pytest.mark.parametrize("config", [LOCAL, PROCESSES])
def test_a_worker_that_dies_ends_its_task_only(endpoint: Callable[..., Running], queues: Queues, config: str) -> None:
    endpoint(config)
    lost = queues.result(queues.submit(die))
    assert lost.error_details.code == "RemoteExecutionError"
    assert "WorkerLost" in lost.data or "BrokenProcessPool" in lost.data
    assert value(queues.result(queues.submit(double, 3))) == 6


def test_what_waits_for_a_worker_runs_by_priority_and_then_in_order(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    endpoint(LOCAL + "heartbeat_period: 1\n")
    go, runs = home / "go", home / "runs"
    first = queues.submit(wait_for, str(go))
    until(lambda: Path(f"{go}.runs").exists())
    later = [str(uuid.uuid4()) for _ in range(4)]
    for number, (task, priority) in enumerate(zip(later, (7, 7, 2, 5), strict=True)):
        body = task_body(task, note, str(runs), number)
        queues.publish(body, task_uuid=task, resource_specification=f'{{"priority": {priority}}}')
    figures = ("outstanding_tasks", "pending_tasks", "idle_workers")
    for _ in range(2):  # one has begun; and in the period after that, the others come to where they wait
        until(lambda: itemgetter(*figures)(queues.figures()) == (5, 4, 0))
    go.touch()
    for task in (first, *later):
        value(queues.result(task))
    assert runs.read_text().split() == ["2", "3", "0", "1"]


def test_a_priority_that_is_no_number_is_the_tasks_error(endpoint: Callable[..., Running], queues: Queues) -> None:
    endpoint(LOCAL)
    wrong = {str(uuid.uuid4()): text for text in ('"high"', "NaN", "[]", "true")}
    for task, text in wrong.items():
        body = task_body(task, double, 1)
        queues.publish(body, task_uuid=task, resource_specification=f'{{"priority": {text}}}')
    for task in wrong:
        assert "priority has to be a number, not" in queues.result(task).data
    assert value(queues.result(queues.submit(double, 4))) == 8


def test_workers_of_a_pool_of_processes_are_forks_of_one_that_has_the_imports_and_end_with_it(
    endpoint: Callable[..., Running], queues: Queues
) -> None:
    running = endpoint(PROCESSES)
    parents = [value(queues.result(queues.submit(parent))) for _ in range(2)]
    assert parents[0] == parents[1] != running.pid
    server = psutil.Process(parents[0])
    assert server.ppid() == running.pid
    workers = server.children()
    assert workers
    running.signal(signal.SIGKILL)
    assert psutil.wait_procs(workers, timeout=LIMIT_S)[1] == []


@pytest.mark.parametrize(("version", "told"), [("3.6.1", True), (platform.python_version(), False)])
def test_a_worker_that_dies_of_another_python_is_told_with_both_versions(
    endpoint: Callable[..., Running], queues: Queues, version: str, told: bool
) -> None:
    endpoint(PROCESSES, environment={"GC_USER_PYTHON_VERSION": version})
    text = queues.result(queues.submit(die)).data
    hint = f"comes from Python {version}, and the workers have Python {platform.python_version()}"
    assert (hint in text) is told


def test_a_task_is_run_again_where_the_configuration_says_so(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    endpoint(PROCESSES.replace("max_workers: 2", "max_workers: 2, max_retries_on_system_failure: 1"))
    assert value(queues.result(queues.submit(die_once, str(home / "marker")))) == "second attempt"
    history = queues.result(queues.submit(die)).data
    assert "Attempt 1 of 2" in history
    assert "Attempt 2 of 2" in history


def test_setup_and_teardown(endpoint: Callable[..., Running], queues: Queues, home: Path) -> None:
    running = endpoint(THREADS + "endpoint_setup: touch began\nendpoint_teardown: touch ended\n")
    queues.heartbeat()
    assert (home / "began").exists()
    assert not (home / "ended").exists()
    running.signal()
    assert running.end().code == 0
    assert (home / "ended").exists()


def test_output_goes_where_the_configuration_says(endpoint: Callable[..., Running], queues: Queues, home: Path) -> None:
    endpoint(THREADS + f"log_dir: {home}/logs\nstderr: errors.log\n")
    queues.heartbeat()
    until(lambda: "Tasks are consumed" in (home / "logs" / "errors.log").read_text())
    assert set(os.listdir(home / "logs")) == {"endpoint.log", "errors.log"}
