"""The process tree as a person wants to see it: user, pid, memory, title."""

from collections.abc import Iterator
from pathlib import Path

import psutil

_WIDTH = 100
_SPAWNER = "twinlock-spawner"
_KEEPER = "twinlock-spawner-keeper"
_ENDPOINT = "Globus Compute Endpoint"
"""In the title of every user endpoint, as the agent has it."""


def tree(*roots: int) -> Iterator[str]:
    """Yield a line for each process of `roots` and each descendant, children indented below their parents."""
    yield f"  {'USER':<12}{'PID':>8}{'MEMORY':>9}  TITLE"
    for root in roots:
        yield from _lines(psutil.Process(root), 0)


def _lines(process: psutil.Process, depth: int) -> Iterator[str]:
    try:
        with process.oneshot():
            title = " ".join(process.cmdline()) or process.name()
            memory = _memory(process) / 2**20
            text = "  " * depth + title
            yield f"  {process.username():<12}{process.pid:>8}{memory:>6.0f} MB  {text[:_WIDTH]}"
            children = process.children()
    except psutil.NoSuchProcess:
        return
    for child in children:
        yield from _lines(child, depth + 1)


def _memory(process: psutil.Process) -> int:
    """Return its own bytes and its share of those it has in common with others.

    Where only root may know that, return all of them.
    """
    try:
        return int(process.memory_full_info().pss)
    except psutil.AccessDenied:
        return int(process.memory_info().rss)


def endpoints(spawner: int) -> list[psutil.Process]:
    """Return the user endpoints among the children of a spawner and its guards; the others are what endpoints left."""
    parents = [psutil.Process(spawner), *guards(spawner)]
    return [child for parent in parents for child in _children(parent) if _ENDPOINT in title(child)]


def keepers(spawner: int) -> list[psutil.Process]:
    """Return those of a spawner's children that wait for its end, to end all in its cgroups; there has to be one."""
    return [child for child in psutil.Process(spawner).children() if title(child) == _KEEPER]


def guards(spawner: int) -> list[psutil.Process]:
    """Return those below a spawner that stand between it and an endpoint, where there are no cgroups or PAM is used."""
    return [child for child in psutil.Process(spawner).children(recursive=True) if title(child) == _SPAWNER]


def idle(spawner: int) -> bool:
    """Return whether no endpoint of a spawner is left, nor anything that one has started."""
    return len(psutil.Process(spawner).children(recursive=True)) == len(keepers(spawner))


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children()
    except psutil.NoSuchProcess:  # it has ended meanwhile
        return []


def title(process: psutil.Process) -> str:
    """Return what ps(1) shows of it; nothing if it has ended."""
    try:
        return " ".join(process.cmdline()).strip()
    except psutil.NoSuchProcess:
        return ""


def capabilities(pid: int) -> int:
    """Return the effective capabilities of a process, as the kernel's bit mask (proc(5))."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("\nCapEff:")[2].split()[0], 16)
