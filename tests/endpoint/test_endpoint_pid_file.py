"""The file by which users end an endpoint, and by which the agent's commands see that it runs."""

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from endpoint_rig import LIMIT_S, Queues, Running, journalled, until
from endpoint_tasks import wait_for
from twinlock_endpoint.home import pid_file

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1}
"""
PEER = Path(os.environ.get("TWINLOCK_PREFIX", sys.prefix), "peer/bin/python")
ASK = """
import pathlib, sys
from globus_compute_endpoint.endpoint.endpoint import Endpoint
print(Endpoint.check_pidfile(pathlib.Path(sys.argv[1])))
"""
THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"


class Watched:
    """A folder whose file is looked after a hundred times a second."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "daemon.pid"
        self.reasons: list[str] = []
        pid_file.write(folder)
        self.task = asyncio.ensure_future(pid_file.watch(folder, self.reasons.append, 0.01))

    async def is_touched(self) -> None:
        """Return when it has been touched once more."""
        os.utime(self.file, (0, 0))
        async with asyncio.timeout(LIMIT_S):
            while not self.file.stat().st_mtime:
                await asyncio.sleep(0.01)


@pytest.fixture
def watched(tmp_path: Path) -> Callable[[], Watched]:
    return lambda: Watched(tmp_path)


async def test_it_is_touched_until_it_is_removed(watched: Callable[[], Watched]) -> None:
    one = watched()
    assert one.file.read_text() == f"{os.getpid()}\n"
    await one.is_touched()
    await one.is_touched()
    assert not one.reasons
    one.file.unlink()
    await asyncio.wait_for(one.task, LIMIT_S)
    assert one.reasons == [pid_file.REMOVED]


async def test_what_the_file_system_refuses_proves_nothing(
    watched: Callable[[], Watched], caplog: pytest.LogCaptureFixture
) -> None:
    one = watched()
    await one.is_touched()
    with nothing_there(one.file.parent), caplog.at_level(logging.WARNING):
        async with asyncio.timeout(LIMIT_S):
            while not caplog.records:
                await asyncio.sleep(0.01)
    await one.is_touched()
    assert [record.getMessage() for record in caplog.records] == [f"{one.file} can't be touched: Not a directory"]
    assert not one.reasons
    one.task.cancel()


@contextmanager
def nothing_there(folder: Path) -> Iterator[None]:
    """A folder that can't be entered, not even by root, as one on a server that has lost it."""
    aside = folder.with_name(f"{folder.name}.aside")
    folder.rename(aside)
    folder.touch()
    try:
        yield
    finally:
        folder.unlink()
        aside.rename(folder)


@pytest.mark.system
def test_who_removes_it_ends_an_endpoint_with_all_its_tasks(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint(LOCAL)
    task = queues.submit(wait_for, str(home / "go"))
    until(Path(f"{home / 'go'}.runs").exists)
    file = running.folder / "daemon.pid"
    assert file.read_text() == f"{running.pid}\n"
    file.unlink()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    assert f"The endpoint was shut down ({pid_file.REMOVED})" in queues.result(task).data
    assert not journalled(running)
    assert not file.exists()


@pytest.mark.system
def test_who_removes_it_ends_one_that_waits_for_signed_work(verified: Callable[..., Running], queues: Queues) -> None:
    running = verified()
    queues.heartbeat()
    (running.folder / "daemon.pid").unlink()
    assert running.end().code == 0
    assert pid_file.REMOVED in running.log()


@pytest.mark.peer
@pytest.mark.skipif(not PEER.exists(), reason="needs the agent's environment, see packaging/peer")
@pytest.mark.system
def test_the_agents_commands_see_that_it_runs(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(THREADS)
    queues.heartbeat()
    asked = subprocess.run([PEER, "-c", ASK, running.folder], capture_output=True, text=True, timeout=60, check=True)
    assert asked.stdout == "{'exists': True, 'active': True}\n"


@pytest.mark.system
def test_nothing_is_left_of_it_after_an_end(endpoint: Callable[..., Running], queues: Queues) -> None:
    running = endpoint(THREADS)
    queues.heartbeat()
    assert (running.folder / "daemon.pid").exists()
    running.signal()
    assert running.end().code == 0
    assert not (running.folder / "daemon.pid").exists()
