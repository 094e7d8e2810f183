"""`twinlock top` on a real terminal, without colours."""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, request
from broker_site import CALLER, Site, says
from spawner_rig import PYTHON
from terminal_rig import Terminal, on_terminal

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")

TWINLOCK = Path(sys.executable).with_name("twinlock")
FIGURES = {
    "running_tasks": 2,
    "queued_tasks": 30,
    "done_tasks": 1045,
    "total_workers": 4,
    "idle_workers": 1,
    "blocks": 5,
    "memory_bytes": 300 << 20,
    "cpu_percent": 160,
    "idle_seconds_left": 65,
}
CELLS = {
    "USER": endpoint_user(),
    "STATE": "running",
    "RUN": "2",
    "QUEUE": "30",
    "DONE": "1045",
    "MEM": "300M",
    "CPU": "160%",
    "IDLE": "0:01:05",
}
NARROW = (*CELLS, "ENDPOINT", "AGE")
WIDE = (*NARROW, "OPTIONS", "MODE", "WORKERS", "BLOCKS", "JOBS")


@pytest.fixture
def policy() -> dict[str, object]:
    """A program that connects to the broker."""
    return {"programs": {"caller": [*PYTHON, CALLER]}}


def table(terminal: Terminal) -> dict[str, str]:
    """What the table's only line has, by heading, but for the options, which are empty; nothing until it is drawn."""
    lines = [line.split() for line in terminal.screen()]
    headings = [[title.rstrip("^") for title in words] for words in lines if words[:1] == ["USER^"]]
    rows = [words for words in lines if words[:1] == [endpoint_user()]]
    pairs = [([title for title in heading if title != "OPTIONS"], row) for heading in headings for row in rows]
    return {
        title: cell for titles, row in pairs if len(titles) == len(row) for title, cell in zip(titles, row, strict=True)
    }


@pytest.mark.parametrize(("size", "titles"), [((80, 24), NARROW), ((200, 50), WIDE)])
@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "vt100"}])
async def test_a_terminal_without_colours(
    site: Site, told: Told, size: tuple[int, int], titles: tuple[str, ...], variables: dict[str, str]
) -> None:
    await site.supervisor.command(request(endpoint_user(), "caller", says({"type": "figures", "figures": FIGURES})))
    await site.figures("done_tasks")
    argv = (TWINLOCK, "top", "--socket", site.runtime / "admin.sock")
    with on_terminal(argv, size, **variables) as terminal:
        first = await asyncio.to_thread(
            terminal.until, lambda words: "? keys" in words and table(terminal).items() >= CELLS.items()
        )
        assert f"manager endpoint {MANAGER} (cluster) broker " in first
        assert "1 endpoints of 1 users" in first
        shown = table(terminal)
        assert set(shown) == set(titles) - {"OPTIONS"}
        assert UEP.startswith(shown["ENDPOINT"])
        terminal.keys("s")
        await asyncio.to_thread(terminal.until, lambda words: f"Stop endpoint {UEP}" in words and "[ No ]" in words)
        terminal.keys("y")
        assert "administrator stopped" in await told.next()
        await asyncio.to_thread(terminal.until, lambda words: "0 endpoints" in words)
        terminal.keys("C-c")
        assert await asyncio.to_thread(terminal.exit_code) == os.EX_OK


async def test_who_ends_it_gets_the_terminal_back(site: Site) -> None:
    admin = site.runtime / "admin.sock"
    with on_terminal((TWINLOCK, "top", "--socket", admin), (80, 24)) as terminal:
        await asyncio.to_thread(terminal.until, lambda words: "? keys" in words)
        (process,) = named(f"{TWINLOCK}\0top\0--socket\0{admin}\0".encode())
        os.kill(process, signal.SIGTERM)
        assert await asyncio.to_thread(terminal.exit_code) == 128 + signal.SIGTERM
        assert "? keys" not in terminal.words()


def named(argv: bytes) -> list[int]:
    """The processes whose command lines end so, but for tmux and the shell."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = process.read_bytes()
            found += [int(process.parent.name)] if words.endswith(argv) and b"python" in words.split(b"\0")[0] else []
    return found
