"""``twinlock status`` and ``twinlock top``: the user endpoints of a running broker."""

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, ask

PERIOD = 2.0
"""Seconds between two tables of `top`."""

_CLEAR = "\x1b[H\x1b[2J"
_HEAD = ("USER", "ENDPOINT", "STATE", "MODE", "PID", "RUNNING", "TASKS", "WORKERS", "IDLE")
_EXAMPLES = """\
  sudo twinlock status
  sudo twinlock status --json | jq '.endpoints[] | select(.user == "ada")'

MODE is "verified" if the endpoint runs nothing but what its user has signed, else "plain"; "-" if the broker can't read
the spawner's policy, or found the endpoint running when it started. --json has the key and the delegation that a
verified one was started with as "signed", by its own word.
TASKS is the number of tasks that the endpoint has no result for yet, WORKERS and IDLE that of its workers, all and
idle; "-" if the endpoint isn't connected to the broker. "restart" after the state: a newer start command waits, in case
the endpoint ends soon.
Lines below the table say what is in the way of an endpoint's tasks, such as a batch scheduler that can't be reached,
and how many results RabbitMQ has refused for good, most often because they are too large. Lines above it say
whether the endpoint is being drained, and which accounts are blocked.
exit codes: 0 done; 69 no broker there; 75 no answer; 76 not a broker's answer; 77 ask as root or as
  the broker's account
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(commands, "status", "show the user endpoints of the running broker", _EXAMPLES)
    made.add_argument("--json", action="store_true", help="print all that is known, as one JSON object")
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Print the state and return the exit code."""
    found = ask(given.socket, {"request": "status"})
    print(json.dumps(found, indent=2) if given.json else picture(found))
    return os.EX_OK


def watch(given: argparse.Namespace) -> int:
    """Print the state again and again until Ctrl-C, and return the exit code."""
    try:
        while True:
            shown = picture(ask(given.socket, {"request": "status"}))
            print((_CLEAR if sys.stdout.isatty() else "") + shown, flush=True)
            time.sleep(PERIOD)
    except KeyboardInterrupt:
        return os.EX_OK


def picture(found: dict[str, Any]) -> str:
    """Return the state as a table for people."""
    up = _duration(time.time() - found["started"])
    link = "connected to the spawner" if found["spawner_connected"] else "NOT CONNECTED TO THE SPAWNER"
    head = f"manager endpoint {found['endpoint']} ({found['name']}), broker up {up}, {link}"
    return "\n".join([head, *_admission(found), *lines(found["endpoints"])])


def lines(endpoints: list[dict[str, Any]]) -> list[str]:
    """Return the table of endpoints, and what there is to say about some of them."""
    rows = [_row(endpoint) for endpoint in endpoints]
    conditions = [f"{one['user']} {one['id']}: {one['condition']}" for one in endpoints if one.get("condition")]
    refused = [line for endpoint in endpoints if (line := _refused(endpoint))]
    table = _table([_HEAD, *rows]) if rows else ["no user endpoints"]
    return [*table, *conditions, *refused]


def _admission(found: dict[str, Any]) -> list[str]:
    """Return who may start no endpoints, and by whose order."""
    drain, blocked = found.get("drain"), found.get("blocked", {})
    lines = [] if drain is None else [f"DRAINING, nothing is started: {_order(drain)}"]
    return lines + [f"blocked: {user}, {_order(order)}" for user, order in blocked.items()]


def _order(order: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M", time.localtime(order["since"]))
    return f"since {since} by {order['by']}: {order['reason']}"


def _row(endpoint: dict[str, Any]) -> tuple[str, ...]:
    figures = endpoint["figures"] or {}
    names = ("outstanding_tasks", "total_workers", "idle_workers")
    state = endpoint["state"] + (" restart" if endpoint["restart_waits"] else "")
    running = "-" if endpoint["seconds"] is None else _duration(endpoint["seconds"])
    work = [str(figures.get(name, "-")) for name in names]
    return (
        endpoint["user"],
        endpoint["id"],
        state,
        endpoint["mode"] or "-",
        str(endpoint["pid"] or "-"),
        running,
        *work,
    )


def _refused(endpoint: dict[str, Any]) -> str:
    figures = endpoint["figures"] or {}
    refused, dropped = (int(figures.get(name, 0)) for name in ("refused_results", "dropped_results"))
    if not refused:
        return ""
    outcome = f"{dropped} of those tasks got no answer" if dropped else "the user was told"
    return f"{endpoint['user']} {endpoint['id']}: RabbitMQ refused {refused} results for good; {outcome}"


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}"
