"""``twinlock resume``: the end of a drain."""

import argparse
import os
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands.ask import add_socket, ask

_EXAMPLES = """\
  sudo twinlock resume

Endpoints are started again, except those of blocked accounts.
exit codes: 0 there is no drain any more; 69 no broker there; 73 it can't write its state; 77 ask as root
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands, "resume", "after maintenance: start endpoints again", _EXAMPLES, description="End a drain."
    )
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """End the drain and return the exit code."""
    done = ask(given.socket, {"request": "resume"})["done"]
    print("endpoints are started again" if done else "there was no drain; endpoints are started")
    return os.EX_OK
