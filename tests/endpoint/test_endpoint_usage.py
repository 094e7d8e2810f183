"""What an endpoint's processes use, measured by the endpoint; here the test's own process is one."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from twinlock_endpoint.manager import processes, usage
from twinlock_endpoint.manager.usage import Usage

MEGABYTES = 50

# Holds so much memory, and says so.
HOLDER = f"""
import sys
held = bytearray({MEGABYTES} << 20)
print("held", flush=True)
sys.stdin.read()
"""

# Uses a processor until it is killed.
BURNER = "print(flush=True)\nwhile True: pass"

# Has a child that uses half a second of a processor's time, and says how many seconds are known when it has ended.
HEIR = """
import os, subprocess, sys
from twinlock_endpoint.manager import processes
def ticks():
    return sum(process.ticks for process in processes.of_endpoint("none"))
before = ticks()
subprocess.run([sys.executable, "-c", "import time\\nwhile time.process_time() < 0.5: pass"], check=True)
print((ticks() - before) / os.sysconf("SC_CLK_TCK"))
"""

# Leads a session, has an orphan in it and one that has left it, and says whether each is among its processes.
LEADER = """
import subprocess
from twinlock_endpoint.manager import processes
shell = ["sh", "-c", "sleep 600 >/dev/null & echo $!"]
orphans = [int(subprocess.check_output(words)) for words in (shell, ["setsid", "-w", *shell])]
found = {process.pid for process in processes.of_endpoint("none")}
print([orphan in found for orphan in orphans])
subprocess.run(["kill", *map(str, orphans)])
"""


@contextmanager
def child(code: str, *before: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A child that has said its word; it ends with the block."""
    argv = [*before, sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as made:
        assert made.stdout is not None
        assert made.stdout.readline()
        yield made


async def measured(made: Usage) -> dict[str, float]:
    """Its figures, when they are there."""
    async with asyncio.timeout(60):
        await made.look()
        while not made.figures:
            await asyncio.sleep(0.01)
            await made.look()
    return made.figures


async def test_a_childs_memory_counts_and_one_that_has_ended_doesnt() -> None:
    with child(HOLDER):
        during = await measured(Usage("none"))
        assert during["processes"] >= 2
    after = await measured(Usage("none"))
    assert during["memory_bytes"] - after["memory_bytes"] > 0.9 * (MEGABYTES << 20)


async def test_processor_time_counts_while_it_is_used() -> None:
    with child(BURNER) as burner:
        async with asyncio.timeout(60):
            while (await measured(Usage("none")))["cpu_percent"] == 0:
                pass
        burner.kill()


def test_the_time_of_a_child_that_has_ended_isnt_lost() -> None:
    assert float(said_by(HEIR)) > 0.45


def said_by(code: str) -> str:
    """What a process prints that leads a session of its own."""
    argv = [sys.executable, "-c", code]
    return subprocess.run(argv, start_new_session=True, stdout=subprocess.PIPE, text=True, check=True).stdout


async def test_what_takes_long_is_done_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "_SHARE", 1e-9)
    made = Usage("none")
    before = await measured(made)
    with child(HOLDER):
        assert await measured(made) == before


def test_an_orphan_counts_that_is_still_in_the_endpoints_session() -> None:
    assert said_by(LEADER) == "[True, False]\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another account")
def test_a_child_of_another_account_is_left_out() -> None:
    with child("import sys; print(flush=True); sys.stdin.read()", "setpriv", "--reuid=65534", "--clear-groups") as made:
        assert made.pid not in {process.pid for process in processes.of_endpoint("none")}


ID = "7b1f2f6e-0000-4000-8000-000000000001"


def test_all_that_is_in_the_endpoints_own_cgroup_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, below = f"/twinlock.slice/1/u-ada/{ID}", f"/twinlock.slice/1/u-ada/{ID}/step"
    me = os.getpid()
    there = {me: own, me + 1: own, me + 2: below, me + 3: f"{own}0", me + 4: "/user.slice"}
    for pid, cgroup in there.items():
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "cgroup").write_text(f"9:name=systemd:/\n0::{cgroup}\n")
        (tmp_path / str(pid) / "stat").write_text(f"{pid} (a) b) R 1 {pid} {pid} {'0 ' * 46}")
    (tmp_path / "self").mkdir()
    monkeypatch.setattr(processes, "_PROC", tmp_path)
    assert sorted(process.pid for process in processes.of_endpoint(ID)) == [me, me + 1, me + 2]
