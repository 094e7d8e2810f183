"""``twinlock status``: the user endpoints of a running broker."""

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, ask
from twinlock_broker.top import columns, head
from twinlock_broker.top.columns import COLUMNS
from twinlock_broker.top.view import View, arrange

_EXAMPLES = f"""\
  sudo twinlock status
  sudo twinlock status --json | jq '.endpoints[] | select(.user == "ada")'

columns; a terminal that is too narrow for all gets the most important ones:
{columns.describe()}

MODE is "-" if the broker can't read the spawner's policy, or found the endpoint running when it started. --json has the
key and the delegation that a verified one was started with as "signed", by its own word. Numbers are "-" if the
endpoint isn't connected to the broker, or is of a version that doesn't tell them.
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


def picture(found: Mapping[str, Any]) -> str:
    """Return the state as a table for people."""
    return "\n".join([*head.head(found), *head.admission(found), *lines(found["endpoints"])])


def lines(endpoints: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the table of endpoints, as wide as the terminal, and what there is to say about some of them."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else math.inf
    arranged = arrange(endpoints, View())
    fitted = columns.fit(COLUMNS, arranged, width)
    table = [columns.heading(fitted), *(columns.text(fitted, line) for line in arranged)]
    return [*(table if arranged else ["no user endpoints"]), *head.conditions(endpoints)]
