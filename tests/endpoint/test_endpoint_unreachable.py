"""Tasks for a pool of workers that is gone before anybody noticed: they never began, so they run elsewhere."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from endpoint_rig import LIMIT_S, Queues, Running, value
from interchange_rig import BEAT_S, Site, site
from slurm_rig import leave, quick, until
from twinlock_testbed.slurm import Slurm

# Nothing but the attempt to send something tells that the pool is gone: heartbeats are missed after ten minutes only.
NEVER_MISSED = "heartbeat_threshold: 600"
SHELL = f"""
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  {NEVER_MISSED}
  provider: {{type: LocalProvider, max_blocks: 1, worker_init: "export MINE=set"}}
"""
FORKED = SHELL.replace(', worker_init: "export MINE=set"', "")


def note(path: str) -> int:
    """Leave a trace of each run; the worker's process."""
    import os
    import pathlib

    with pathlib.Path(path).open("a") as runs:
        runs.write("x")
    return os.getpid()


def job_of_this() -> str:
    import os

    return os.environ["SLURM_JOB_ID"]


def connected(running: Running) -> bool:
    """Whether the interchange has a connection to a pool, as far as it has noticed."""
    [interchange] = running.parts("interchange")
    found = interchange.net_connections("tcp")
    ports = {each.laddr.port for each in found if each.status == psutil.CONN_LISTEN}
    return any(each.laddr.port in ports for each in found if each.status != psutil.CONN_LISTEN)


def kill_block(worker: int) -> None:
    """All processes of the block that has this worker, at once."""
    group = os.getpgid(worker)
    processes = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):  # of anybody's, and it has ended meanwhile
            if os.getpgid(process.pid) == group:
                processes.append(process)
    os.killpg(group, signal.SIGKILL)
    assert psutil.wait_procs(processes, timeout=LIMIT_S)[1] == []


@pytest.mark.cases(1)
@pytest.mark.system
@pytest.mark.parametrize("config", [SHELL, FORKED], ids=["pool of a shell", "forked pool"])
def test_they_run_in_the_next_block(endpoint: Callable[..., Running], queues: Queues, home: Path, config: str) -> None:
    running = endpoint(config, environment={"TMPDIR": "/tmp"})
    first = value(queues.result(queues.submit(note, str(home / "runs"))))
    assert connected(running)
    kill_block(first)
    until(lambda: not connected(running))  # what it sends before it has noticed counts as sent
    tasks = [queues.submit(note, str(home / "runs")) for _ in range(3)]
    assert first not in [value(queues.result(task)) for task in tasks]
    assert (home / "runs").read_text() == 4 * "x", "each ran once"


@pytest.fixture(name="site")
def made_site(tmp_path: Path) -> Iterator[Site]:
    with site(tmp_path) as made:
        yield made


def test_what_could_not_be_sent_is_queued_again(site: Site) -> None:
    site.leave()
    site.submit(1)
    assert (site.queued, site.sent) == ([1], [])


def test_what_was_sent_is_never_sent_again(site: Site) -> None:
    """Nor when the answer to a pool's heartbeat finds it gone."""
    site.submit(1)
    assert (site.queued, site.sent) == ([], [1])
    site.leave()
    site.interchange.manager_sock.send_multipart([b"pool", b"an answer"])
    site.send()
    assert (site.queued, site.sent) == ([], [1])


def test_a_pool_that_is_silent_gets_nothing_until_it_is_heard_of(site: Site) -> None:
    """Its node may have vanished, which no connection tells."""
    site.be_silent(2 * BEAT_S + 1)
    site.queue(1)
    for _ in range(2):
        site.go_round()
    assert (site.queued, site.sent) == ([1], [])
    site.be_silent(0)
    for _ in range(2):
        site.go_round()
    assert (site.queued, site.sent) == ([], [1])


@pytest.mark.thorough
@pytest.mark.slurm
@pytest.mark.system
def test_they_run_in_the_next_job(endpoint: Callable[..., Running], queues: Queues, slurm: Slurm) -> None:
    config = quick(threshold=600)
    running = endpoint(config, environment=slurm.environment())
    first = value(queues.result(queues.submit(job_of_this)))
    slurm.run("scancel", first)
    until(lambda: not slurm.jobs() and not connected(running))
    assert value(queues.result(queues.submit(job_of_this))) != first
    leave(running, slurm)
