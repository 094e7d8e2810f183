"""Which endpoint a process of this host belongs to, by what the kernel says."""

import re
import time
from collections.abc import Mapping
from pathlib import Path

from twinlock_broker import processes
from twinlock_broker.printable import printable
from twinlock_broker.trace.event import Event, Source

_CGROUP = re.compile(r"/u-[^/]+/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})(?:/|$)", re.MULTILINE)
"""An endpoint's cgroup, below one that only root can make."""

_NOBODY = 4294967295
"""The login uid of processes that no login has started."""


_CLOSE = 60.0
"""Seconds between a process's start and the line about it, at most; a later process may have the same number."""


def endpoint_of(pid: int, running: Mapping[int, Event]) -> str:
    """Return the endpoint that the process belongs to; empty if it is of none.

    `running` has the last events about endpoints' processes: what descends from such a process is the endpoint's.
    """
    found = _CGROUP.search(_read(pid, "cgroup"))
    if found:
        return found[1]
    seen = set[int]()
    while pid > 1 and pid not in running and pid not in seen:
        seen.add(pid)
        pid = processes.parent(pid)
    event = running.get(pid)
    return event.endpoint if event is not None and is_it(pid, event) else ""


def is_it(pid: int, event: Event) -> bool:
    """Return whether the process with this number is still the one that an event is about."""
    began = _began(pid)
    return began is not None and (event.source is Source.NOW or abs(began - event.time) < _CLOSE)


def describe(pid: int, endpoint: str = "", request: str = "", user: str = "") -> Event | None:
    """Return an event about a process that exists, now; None if it doesn't."""
    uid = re.search(r"^Uid:\s+(\d+)", _read(pid, "status"), re.MULTILINE)
    if uid is None:
        return None
    login = _read(pid, "loginuid").strip()
    by_login = "no login uid" if login in ("", str(_NOBODY)) else f"login uid {login}"
    name = printable(_read(pid, "comm").strip(), 16)
    began = _began(pid)
    since = f", started {_clock(began)}" if began is not None else ""
    text = f"process {pid} exists: uid {uid[1]}, {by_login}, called {name!r}{since}"
    return Event(time.time(), Source.NOW, text, request, endpoint, user)


def _read(pid: int, name: str) -> str:
    try:
        return Path(f"/proc/{pid}/{name}").read_text(errors="replace")
    except OSError:
        return ""


def _began(pid: int) -> float | None:
    """Return when a process was started, in seconds since 1970; None if there is none."""
    began = processes.started(pid)
    return time.time() - (time.monotonic() - began) if began is not None else None


def _clock(moment: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))
