"""The site's environment variables: each has the effect that it has for a program that starts with it."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import PROGRAM, AgentQueues, Queues, Running, endpoint_name, run, value

pytestmark = pytest.mark.system

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  address: 127.0.0.1
  provider: {type: LocalProvider, max_blocks: 1}
"""
ENGINES = {
    "forked": LOCAL,
    "programs": LOCAL.replace("max_blocks: 1}", "max_blocks: 1, worker_init: 'true'}"),
    "threads": THREADS,
    "processes": "engine: {type: ProcessPoolEngine, max_workers: 1}\n",
}


def effects() -> dict[str, Any]:
    import ctypes
    import os
    import time

    import module_of_the_site  # type: ignore[import-not-found]

    library = ctypes.CDLL("libtwinlocksite.so")
    library.cos.restype = ctypes.c_double
    return {
        "module": module_of_the_site.VALUE,
        "library": library.cos(ctypes.c_double(0)),
        "zone": (time.tzname[0], time.timezone),
        "hash": hash("twinlock"),
        "plain": os.environb[b"SITE_SCRATCH"],
    }


def bytes_of(name: str) -> bytes:
    import os

    return os.environb[name.encode()]


def find(program: str) -> str | None:
    import shutil

    return shutil.which(program)


def surroundings() -> dict[str, Any]:
    import os
    import signal
    import sys

    mask = os.umask(0o077)
    os.umask(mask)
    return {
        "umask": mask,
        "handled": [repr(signal.getsignal(number)).partition(" at ")[0] for number in (1, 2, 3, 10, 12, 13, 15, 25)],
        "blocked": sorted(signal.pthread_sigmask(signal.SIG_BLOCK, [])),
        "folder": os.getcwd(),
        "arguments": sys.argv,
        "user's folder": os.environ["HOME"],
        "process": os.getpid(),
    }


def site(folder: Path) -> dict[str, str]:
    """Variables that point into the folder, and what they point to."""
    folder.mkdir()
    (folder / "module_of_the_site.py").write_text("VALUE = 'from the site'\n")
    [mathematics] = {line.split()[-1] for line in maps() if line.rstrip().endswith("/libm.so.6")}
    shutil.copy(mathematics, folder / "libtwinlocksite.so")
    return {
        "PYTHONPATH": str(folder),
        "LD_LIBRARY_PATH": str(folder),
        "TZ": "SITE-05:30",
        "PYTHONHASHSEED": "7",
        "SITE_SCRATCH": "/scratch/ä",
    }


def maps() -> list[str]:
    """The libraries of a program that calculates."""
    code = "import math; print(open('/proc/self/maps').read())"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()


def hash_of(text: str, seed: str, python: str | Path) -> int:
    """The hash of a text in an interpreter that starts with this seed."""
    code = f"print(hash({text!r}))"
    environment = {"PYTHONHASHSEED": seed}
    return int(subprocess.run([python, "-c", code], env=environment, capture_output=True, check=True).stdout)


def expected(python: str | Path) -> dict[str, Any]:
    """What `effects` sees with the variables of `site`."""
    return {
        "module": "from the site",
        "library": 1.0,  # the cosine of 0
        "zone": ("SITE", -(5 * 60 + 30) * 60),  # POSIX: hours before UTC, and seconds west of it
        "hash": hash_of("twinlock", "7", python),
        "plain": "/scratch/ä".encode(),
    }


@pytest.mark.cases(2)
@pytest.mark.parametrize("engine", ENGINES)
def test_variables_act_on_tasks(endpoint: Callable[..., Running], queues: Queues, home: Path, engine: str) -> None:
    running = endpoint(ENGINES[engine], environment=site(home / "site"))
    assert value(queues.result(queues.submit(effects))) == expected(sys.executable)
    running.signal()
    end = running.end()
    assert (end.code, end.left, end.said) == (0, [], "")


def test_a_program_of_the_sites_path_is_found(endpoint: Callable[..., Running], queues: Queues, home: Path) -> None:
    tool = home / "tools" / "site-tool"
    tool.parent.mkdir()
    tool.touch(0o755)
    running = endpoint(LOCAL, environment={"PATH": f"{tool.parent}:/usr/bin:/bin"})
    assert value(queues.result(queues.submit(find, tool.name))) == str(tool)
    assert running.parts("zygote")


def test_all_else_is_as_without_variables(endpoint: Callable[..., Running], queues: Queues) -> None:
    seen = []
    for environment in ({}, {"TZ": "SITE-05:30"}):
        running = endpoint(THREADS, environment=environment)
        seen.append(value(queues.result(queues.submit(surroundings))))
        assert seen[-1].pop("process") == running.pid
        running.signal(signal.SIGTERM)
        assert running.end().code == 0
    assert seen[0] == seen[1]


def test_variables_that_change_how_texts_are_read(endpoint: Callable[..., Running], queues: Queues) -> None:
    names = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-16"}
    endpoint(THREADS, environment={**names, "SITE": "ä"})
    assert value(queues.result(queues.submit(bytes_of, "SITE"))) == "ä".encode()


@pytest.mark.parametrize("start", [[], ["-P", "-m", "twinlock_endpoint"]])
def test_however_the_program_is_started(home: Path, queues: Queues, start: list[str]) -> None:
    told = {"amqp_creds": queues.creds(), "config": THREADS, "ep_info": {}, "environment": site(home / "site")}
    program = Path(sys.executable) if start else PROGRAM
    running = run(home, queues, json.dumps(told).encode(), *start, endpoint_name(queues), program=program)
    try:
        assert value(queues.result(queues.submit(effects))) == expected(sys.executable)
    finally:
        running.signal()
        assert running.end().code == 0


@pytest.mark.parametrize("name", ["PYTHONHOME", "PYTHONPATH", "LD_LIBRARY_PATH", "PYTHONHASHSEED"])
def test_variables_with_which_python_cannot_start(home: Path, queues: Queues, name: str) -> None:
    broken = home / "broken"
    broken.mkdir()
    for file in ("json.py", "libz.so.1", "libexpat.so.1"):
        (broken / file).write_text("This is neither Python nor a library")
    said = refusal(home, queues, {name: str(broken), "TZ": "UTC"})
    assert f"Python can't start with the site's environment variables ({name}): " in said
    reason = {"PYTHONPATH": "SyntaxError", "LD_LIBRARY_PATH": "shared libraries"}.get(name, "Fatal Python error")
    assert reason in said


def test_a_module_of_the_sites_in_the_place_of_one_of_ours(home: Path, queues: Queues) -> None:
    (home / "broken").mkdir()
    (home / "broken" / "yaml.py").write_text("raise ImportError('not the real one')")
    assert "not the real one" in refusal(home, queues, {"PYTHONPATH": str(home / "broken")}, os.EX_SOFTWARE)


def test_variables_that_are_too_long(home: Path, queues: Queues) -> None:
    said = refusal(home, queues, {"SITE": "x" * 200_000})
    assert "can't be executed with the site's environment variables: Argument list too long" in said


def refusal(home: Path, queues: Queues, environment: dict[str, str], code: int = os.EX_CONFIG) -> str:
    """The one line that a start with these variables ends with."""
    told = {"amqp_creds": queues.creds(), "config": THREADS, "ep_info": {}, "environment": environment}
    end = run(home, queues, json.dumps(told).encode(), endpoint_name(queues)).end()
    assert (end.code, end.left) == (code, []), end.said
    [line] = end.said.strip().splitlines()
    return line


@pytest.mark.thorough
@pytest.mark.peer
def test_variables_act_on_tasks_of_the_official_agent(home: Path, agent_queues: AgentQueues, peer: Path) -> None:
    told = {"amqp_creds": agent_queues.creds(), "config": LOCAL, "ep_info": {}, "environment": site(home / "site")}
    document = json.dumps({**told, "restarted": False, "control": ""}).encode()
    agent = str(peer / "globus-compute-endpoint")
    running = run(home, agent_queues, document, "--agent", agent, endpoint_name(agent_queues))
    try:
        task = agent_queues.submit(effects)
        assert value(agent_queues.result(task)) == expected(peer / "python")
        assert "globus_compute_endpoint" in running.log()
        assert running.folder.stat().st_mode & 0o777 == 0o700
    finally:
        running.signal()
        running.end()


@pytest.mark.parametrize(
    ("agent", "code", "said"),
    [
        ("/nonexistent/globus-compute-endpoint", os.EX_CONFIG, "The official agent can't be executed"),
        ("globus-compute-endpoint", 100, "usage: twinlock-endpoint [--agent PROGRAM | --verified FILE]"),
    ],
)
def test_an_agent_that_cannot_be_executed(home: Path, queues: Queues, agent: str, code: int, said: str) -> None:
    told = {"amqp_creds": queues.creds(), "config": LOCAL, "ep_info": {}}
    end = run(home, queues, json.dumps(told).encode(), "--agent", agent, endpoint_name(queues)).end()
    assert (end.code, said in end.said) == (code, True), end.said


@pytest.mark.peer
def test_variables_with_which_the_official_agent_cannot_start(home: Path, queues: Queues, peer: Path) -> None:
    variables = {"PYTHONHOME": "/nonexistent"}
    told = {"amqp_creds": queues.creds(), "config": LOCAL, "ep_info": {}, "environment": variables}
    words = ["--agent", str(peer / "globus-compute-endpoint"), endpoint_name(queues)]
    end = run(home, queues, json.dumps(told).encode(), *words).end()
    assert end.code == os.EX_CONFIG
    assert "Python can't start with the site's environment variables (PYTHONHOME): Fatal Python error" in end.said
