"""The reports of an endpoint to a manager endpoint at which somebody looks; its place the test takes."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from batch_rig import PBS, environment
from endpoint_rig import Queues, Running, value
from endpoint_tasks import double
from manager_socket import ManagerSocket, report
from twinlock_endpoint.manager import reports
from twinlock_endpoint.manager.reports import Reports
from twinlock_endpoint.manager.usage import Usage

SELDOM = "heartbeat_period: 3600\n"
THREADS = f"engine: {{type: ThreadPoolEngine, max_workers: 1}}\n{SELDOM}"
LOCAL = f"""
engine: {{type: GlobusComputeEngine, max_workers_per_node: 1, provider: {{type: LocalProvider, max_blocks: 1}}}}
{SELDOM}"""

system = pytest.mark.system


def wait_for(path: str) -> str:
    import pathlib
    import time

    while not pathlib.Path(path).exists():
        time.sleep(0.01)
    return "done"


@system
def test_an_endpoint_that_nobody_asks_tells_its_figures_with_heartbeats_only(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path))
    manager.accept()
    first = manager.receive("figures")
    assert (first["reports"], "memory_bytes" in first["figures"]) == (True, False)
    assert value(queues.result(queues.submit(double, 4))) == 8
    manager.send({"type": "end", "reason": "because"})
    figures = [message["figures"] for message in manager.rest() if message["type"] == "figures"]
    assert not any("memory_bytes" in told for told in figures)


@system
def test_who_asks_once_hears_more_than_once(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path))
    manager.accept()
    manager.receive("figures")
    manager.send({"type": "report"})
    for figures in (manager.receive("figures")["figures"] for _ in range(2)):
        assert figures["memory_bytes"] > 10_000_000
        assert figures["processes"] >= 1
        assert figures["cpu_percent"] >= 0


@system
def test_a_report_has_the_tasks_that_run_wait_and_are_done(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, home: Path
) -> None:
    endpoint(THREADS, control=str(manager.path))
    manager.accept()
    tasks = [queues.submit(wait_for, str(home / "go")) for _ in range(3)]
    names = "running_tasks", "queued_tasks", "done_tasks"
    report(manager, lambda figures, _: [figures.get(name) for name in names] == [1, 2, 0])
    (home / "go").touch()
    assert [value(queues.result(task)) for task in tasks] == ["done"] * 3
    report(manager, lambda figures, _: [figures.get(name) for name in names] == [0, 0, 3])


@system
def test_an_idle_endpoint_tells_how_long_it_stays(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(
        THREADS.replace("3600", "5") + "idle_heartbeats_soft: 100\nidle_heartbeats_hard: 200\n",
        control=str(manager.path),
    )
    manager.accept()
    assert "idle_seconds_left" not in manager.receive("figures")["figures"]
    assert value(queues.result(queues.submit(double, 4))) == 8
    told = report(manager, lambda figures, _: "idle_seconds_left" in figures)
    assert 0 < told["figures"]["idle_seconds_left"] <= 99 * 5


@system
def test_a_report_has_the_batch_jobs(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, batch: Path
) -> None:
    endpoint(PBS + SELDOM, control=str(manager.path), environment=environment(batch))
    manager.accept()
    told = report(manager, lambda _, message: bool(message["jobs"]))
    assert told["figures"]["blocks"] == 1
    [job] = told["jobs"]
    assert job.startswith("1")


@system
def test_an_engine_that_starts_is_asked_for_nothing(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket, home: Path
) -> None:
    """What the interchange answers then is meant for the engine. It is slow to start here."""
    go, slow = home / "go", home / "interchange"
    interchange = Path(sys.executable).with_name("interchange.py")
    slow.write_text(f"#!/bin/sh\nuntil [ -e {go} ]; do sleep 0.02; done\nexec {interchange}\n")
    slow.chmod(0o755)
    config = LOCAL.replace("{type: Globus", f"{{interchange_launch_cmd: [{slow}], type: Globus")
    endpoint(config, control=str(manager.path))
    manager.accept()
    assert manager.receive("journal")["tasks"] == 0
    manager.send({"type": "report"})
    assert not manager.says_something(2.0)
    go.touch()
    assert "total_workers" in manager.receive("figures")["figures"]
    assert value(queues.result(queues.submit(double, 4))) == 8


@system
def test_blocks_on_this_host_are_no_batch_jobs_and_a_hung_engine_delays_no_report(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    running = endpoint(LOCAL, control=str(manager.path))
    manager.accept()
    parts = 5  # endpoint, zygote, interchange, pool and worker
    told = report(
        manager, lambda figures, _: figures.get("total_workers") == 1 and figures.get("processes", 0) >= parts
    )
    assert (told["figures"]["blocks"], told["jobs"]) == (1, [])
    (interchange,) = running.parts("interchange")
    interchange.suspend()
    for _ in range(4):  # some may have been on their way
        report(manager, lambda _, __: True)
    interchange.resume()


@system
def test_a_manager_that_was_started_again_needs_no_heartbeat_to_know_the_figures(
    endpoint: Callable[..., Running], queues: Queues, manager: ManagerSocket
) -> None:
    endpoint(THREADS, control=str(manager.path))
    manager.accept()
    first = manager.receive("figures")
    manager.hang_up()
    manager.accept()
    assert manager.receive("figures").keys() == first.keys()


async def test_when_nobody_asks_any_more_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "_PERIOD_S", 0.01)
    monkeypatch.setattr(reports, "_WATCHED_S", 0.1)
    told: list[bool] = []
    made = Reports(Usage("none"), _nothing, lambda: told.append(True))
    running = asyncio.create_task(made.run())
    for _ in range(2):
        before = len(told)
        made.ask()
        async with asyncio.timeout(60):
            while len(told) == before or await _grows(told):
                await asyncio.sleep(0.01)
    running.cancel()


async def test_reports_go_on_when_figures_cant_be_had(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reports, "_PERIOD_S", 0.01)
    told: list[bool] = []

    async def fail() -> None:
        raise RuntimeError("can't start new thread")

    made = Reports(Usage("none"), fail, lambda: told.append(True))
    running = asyncio.create_task(made.run())
    made.ask()
    async with asyncio.timeout(60):
        while len(told) < 3:
            await asyncio.sleep(0.01)
    running.cancel()
    assert caplog.text.count("can't start new thread") == 1


async def _grows(told: list[bool]) -> bool:
    """Whether there are more after twenty periods."""
    before = len(told)
    await asyncio.sleep(0.2)
    return len(told) > before


async def _nothing() -> None:
    pass
