"""``twinlock resume``: the end of a drain."""

import argparse
import os
from typing import Any

from twinlock_broker.commands.ask import add_socket, ask

_EXAMPLES = """\
  sudo twinlock resume

Endpoints are started again, but for blocked accounts.
exit codes: 0 no drain any more; 69 no broker there; 73 it can't write its state; 77 ask as root
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "resume",
        help="after maintenance: start endpoints again",
        description="End a drain.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """End the drain; the exit code."""
    done = ask(given.socket, {"request": "resume"})["done"]
    print("endpoints are started again" if done else "there was no drain; endpoints are started")
    return os.EX_OK
