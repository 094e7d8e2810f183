"""``twinlock drain``: before maintenance, no new starts, and a wait for the last task."""

import argparse
import math
import os
import time
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, ask
from twinlock_broker.errors import Fatal

PERIOD = 2.0
"""Seconds between two looks at what still runs."""

_EXAMPLES = """\
  sudo twinlock drain --reason "new kernel, back on Friday at 12"
  sudo twinlock drain --timeout 3600 && sudo systemctl stop twinlock-broker twinlock-spawner

From now on no endpoint is started; everyone who needs one gets an error with the reason. Running endpoints continue and
accept tasks from their users; each is ended when it has had no task for a few seconds. The command waits for that and
shows what it is waiting for. Endpoints that aren't connected to the broker, such as the official agent's, end when they
have been idle for a while, or by `twinlock stop`.

The drain lasts until `twinlock resume`, even after Ctrl-C and after a restart of the broker or the host.
exit codes: 0 no endpoint is left; 69 no broker there; 73 it can't write its state; 75 not drained within --timeout,
  the drain goes on; 77 ask as root; 130 Ctrl-C, the drain goes on
"""
_INTERRUPTED = 130


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "drain",
        "before maintenance: start nothing new, and wait for the last task",
        _EXAMPLES,
        description="Start no more endpoints, and wait until the last task has ended.",
    )
    made.add_argument(
        "--reason", metavar="TEXT", default="maintenance", help="what users are told (default: %(default)s)"
    )
    made.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=math.inf,
        help="wait no longer than this (default: without limit)",
    )
    add_socket(made)
    return made


def _seconds(text: str) -> float:
    """Return the number of seconds that a text says. Raise `ValueError`, which argparse reports."""
    value = float(text)
    if not value >= 0:
        raise ValueError(text)
    return value


def run(given: argparse.Namespace) -> int:
    """Start a drain, wait until nothing runs, and return the exit code."""
    ask(given.socket, {"request": "drain", "reason": given.reason})
    print("no more endpoints are started, until `twinlock resume`", flush=True)
    try:
        return _wait(given.socket, time.monotonic() + given.timeout)
    except KeyboardInterrupt:
        print("\nnot waiting any longer; the drain goes on")
        return _INTERRUPTED


def _wait(broker: Path, end: float) -> int:
    shown = ""
    while True:
        left = _left(ask(broker, {"request": "status"}))
        if left is None:
            break
        if left != shown:
            print(left, flush=True)
        shown = left
        if time.monotonic() >= end:
            raise Fatal(os.EX_TEMPFAIL, "not drained in time; the drain goes on, `twinlock resume` ends it")
        time.sleep(min(PERIOD, max(0.0, end - time.monotonic())))
    print("drained: no endpoint is left")
    return os.EX_OK


def _left(state: dict[str, Any]) -> str | None:
    """Return what is waited for, for people; None if nothing is. Raise `Fatal` (75) if somebody ended the drain."""
    if state["drain"] is None:
        raise Fatal(os.EX_TEMPFAIL, "somebody has ended the drain with `twinlock resume`")
    rows = [row for row in state["endpoints"] if row["state"] != "failed"]
    return f"waiting for {', '.join(_describe(row) for row in rows)}" if rows else None


def _describe(row: dict[str, Any]) -> str:
    figures = row["figures"]
    tasks = "not connected" if figures is None else f"{figures.get('outstanding_tasks', 0):.0f} tasks"
    return f"{row['user']} {row['id'][:8]} ({tasks})"
