"""Workers that are forked from the zygote: they are as those that a shell starts, and end when they have to."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from endpoint_rig import LIMIT_S, NOBODY, Queues, Running, limited, until, value
from endpoint_tasks import wait_for

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  heartbeat_period: 1
  heartbeat_threshold: 120
  provider: {type: LocalProvider, max_blocks: 1}
"""
SHELL = LOCAL.replace("max_blocks: 1}", "max_blocks: 1, worker_init: 'export FROM_INIT=yes'}")
SCALED = LOCAL + "  job_status_kwargs: {max_idletime: 0.5, strategy_period: 0.5}\n"


# Two processes, and between them one that the zygote can't start: how the first fares, why not, how the last ends.
LIMITED = """
import os, resource, sys, time
from dataclasses import dataclass
from twinlock_endpoint.zygote.client import Zygote, ZygoteError
from twinlock_endpoint.zygote.program import Program

@dataclass(frozen=True)
class Sleep(Program):
    seconds: float = 0

    def run(self):
        time.sleep(self.seconds)

zygote = Zygote(lambda: None)
(pid,) = map(int, open(f"/proc/self/task/{os.getpid()}/children").read().split())
first = zygote.start(Sleep(seconds=1000))
which = getattr(resource, sys.argv[1])
taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
free = [number for number in range(100) if number not in taken]
former = resource.prlimit(pid, which)
resource.prlimit(pid, which, (free[int(sys.argv[2])] if which == resource.RLIMIT_NOFILE else 0, former[1]))
try:
    zygote.start(Sleep())
except ZygoteError as error:
    print(error)
resource.prlimit(pid, which, former)
print(first.poll(), zygote.start(Sleep()).wait(60))
zygote.close()
"""


# What a process has of variables that were set after its zygote was forked.
LATER = """
import os
from dataclasses import dataclass
from twinlock_endpoint.zygote.client import Zygote
from twinlock_endpoint.zygote.program import Program

@dataclass(frozen=True)
class Tell(Program):
    def run(self):
        print(*(os.environ[name] for name in ("ADDED", "CHANGED", "OWN")))

os.environ.update(CHANGED="old", OWN="old")
zygote = Zygote(lambda: None)
os.environ.update(ADDED="new", CHANGED="new", OWN="new")
zygote.start(Tell(environment={"OWN": "own"})).wait(60)
zygote.close()
"""


def surroundings() -> dict[str, Any]:
    import logging
    import os
    import signal
    import sys

    mask = os.umask(0)
    os.umask(mask)
    shells_own = {"FROM_INIT", "PYTHONPATH", "_", "PWD", "OLDPWD", "SHLVL"}
    return {
        "ids": (os.getresuid(), os.getresgid(), os.getgroups()),
        "umask": mask,
        "folder": os.path.basename(os.getcwd()),
        "environment": sorted(os.environ.keys() - shells_own),
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "handled": {n: str(signal.getsignal(n)) for n in (1, 2, 3, 13, 15)},
        "input": os.read(0, 1),
        "logging": (len(logging.root.handlers), logging.root.level),
        "main": hasattr(sys.modules["__main__"], "document"),
        "nice": os.nice(0),
    }


def from_init() -> str | None:
    import os

    return os.environ.get("FROM_INIT")


def use_packages() -> list[Any]:
    import globus_compute_sdk
    import parsl
    import parsl.providers
    import requests
    import typeguard

    names = [parsl.python_app, parsl.File, parsl.providers.SlurmProvider, globus_compute_sdk.Executor, requests.get]
    return [typeguard.typechecked.__module__, parsl.__version__ > "", [thing.__name__ for thing in names]]


def heavy_modules() -> list[str]:
    import sys

    return sorted({"globus_sdk", "pydantic", "cryptography", "kubernetes", "requests.api"} & sys.modules.keys())


def start_another(path: str) -> None:
    import pathlib
    import subprocess
    import time

    pathlib.Path(path).write_text(str(subprocess.Popen(["sleep", "1000"]).pid))
    time.sleep(1000)


def nothing() -> None:
    """A task."""


def test_a_forked_worker_is_as_one_that_a_shell_starts(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint(LOCAL)
    forked = value(queues.result(queues.submit(surroundings)))
    assert running.parts("zygote")
    running.signal()
    assert running.end().code == 0
    running = endpoint(SHELL)
    assert value(queues.result(queues.submit(from_init))) == "yes"
    assert forked == value(queues.result(queues.submit(surroundings)))
    assert {"PARSL_WORKER_RANK", "PARSL_WORKER_BLOCK_ID", "JOBNAME", "CORES"} <= set(forked["environment"])


def test_packages_are_loaded_only_by_who_uses_them_and_then_whole(
    endpoint: Callable[..., Running], queues: Queues
) -> None:
    endpoint(LOCAL)
    assert value(queues.result(queues.submit(heavy_modules))) == []
    names = ["python_app", "File", "SlurmProvider", "Executor", "get"]
    assert value(queues.result(queues.submit(use_packages))) == ["typeguard", True, names]


def test_nothing_outlives_an_endpoint_that_is_killed(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint(LOCAL)
    queues.submit(start_another, str(home / "pid"))
    until((home / "pid").exists)
    running.signal(signal.SIGKILL)
    end = running.end()
    assert (end.code, end.left) == (-signal.SIGKILL, [])


def test_a_zygote_that_dies_ends_all_tasks_with_a_reason(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint(LOCAL)
    task = queues.submit(start_another, str(home / "pid"))
    until((home / "pid").exists)
    for zygote in running.parts("zygote"):
        with suppress(psutil.NoSuchProcess):  # a fork of it that ended with it
            zygote.kill()
    assert "interchange ended" in queues.result(task).data
    end = running.end()
    assert (end.code, end.left) == (os.EX_UNAVAILABLE, [])


@pytest.mark.parametrize(
    ("limit", "left", "why"),
    [
        ("RLIMIT_NPROC", 0, "(Resource temporarily unavailable)"),
        ("RLIMIT_NOFILE", 0, "or can't open another file"),
        ("RLIMIT_NOFILE", 1, "(Too many open files)"),
        ("RLIMIT_NOFILE", 2, "(Too many open files)"),
    ],
)
def test_what_the_zygote_cant_start_costs_nothing_else(limit: str, left: int, why: str) -> None:
    words = [sys.executable, "-c", LIMITED, limit, str(left)]
    done = subprocess.run(words, user=NOBODY, cwd="/", capture_output=True, text=True, check=False)
    assert why in done.stdout, done.stderr
    assert done.stdout.splitlines()[1:] == ["None 0"]


def test_a_process_has_what_the_endpoint_has_set_since_the_fork() -> None:
    """In verified mode it hears only later what the user's Python is."""
    done = subprocess.run([sys.executable, "-c", LATER], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout == "new new own\n"


def test_a_block_that_cant_be_started_is_tried_again(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint(SCALED)
    value(queues.result(queues.submit(nothing)))
    until(lambda: not running.parts("HTEX pool"))
    (zygote,) = running.parts("zygote")
    with limited(zygote.pid, "nproc", 0):
        task = queues.submit(nothing)
        until(lambda: "no process can be started (Resource temporarily unavailable)" in running.log())
    value(queues.result(task))


def test_an_idle_block_ends_with_its_workers_and_another_comes_with_work(
    endpoint: Callable[..., Running], queues: Queues, home: Path
) -> None:
    running = endpoint(SCALED)
    value(queues.result(queues.submit(nothing)))
    until(lambda: not running.parts("HTEX pool") and not running.parts("HTEX worker"))
    task = queues.submit(wait_for, str(home / "go"))
    until((home / "go.runs").exists)
    assert len(running.parts("HTEX worker")) == 1
    (home / "go").touch()
    value(queues.result(task))


def test_a_worker_that_dies_as_soon_as_it_starts_takes_a_pause(
    endpoint: Callable[..., Running], queues: Queues
) -> None:
    running = endpoint(LOCAL)
    value(queues.result(queues.submit(nothing)))
    killed: set[int] = set()
    began = time.monotonic()
    while len(killed) < 5:
        assert time.monotonic() < began + LIMIT_S
        for worker in running.parts("HTEX worker"):
            with suppress(psutil.NoSuchProcess):
                worker.kill()
                killed.add(worker.pid)
    assert time.monotonic() > began + 2, "one a second, but for the first and those that came to live for a second"
    until(lambda: any(worker.pid not in killed for worker in running.parts("HTEX worker")))  # the last end is noticed
    value(queues.result(queues.submit(nothing)))
