"""``twinlock top``: the user endpoints of a running broker, live."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from twinlock_broker.command_line import add_command
from twinlock_broker.commands import status
from twinlock_broker.commands.ask import add_socket, ask
from twinlock_broker.top.broker_link import PERIOD, look
from twinlock_broker.top.keys import help_text

_EXAMPLES = f"""\
  sudo twinlock top
  sudo twinlock top | tee seen

On a terminal it goes on by itself, and keys act on it. Nothing is stopped, blocked or drained without a question that
has to be answered by yes. If the broker is restarted, the last picture stays, marked as stale, until it answers again.
Where standard input, output or error isn't a terminal, the table of `twinlock status` is printed every {PERIOD:.0f} s.
NO_COLOR=1 turns colours off.

keys:
{help_text()}

exit codes: 0 q, or Ctrl-C; 69 no broker there, when it begins; 75 no answer; 76 not a broker's answer;
  77 ask as root or as the broker's account; 143 SIGTERM
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "top",
        "watch the user endpoints of the running broker",
        _EXAMPLES,
        description="Show the user endpoints of the running broker, until Ctrl-C.",
    )
    add_socket(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Show the state until Ctrl-C, and return the exit code."""
    try:
        if all(stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr)):
            return _live(given.socket)
        _print_again_and_again(given.socket)
    except KeyboardInterrupt:
        return os.EX_OK


def _live(path: Path) -> int:
    picture = look(path)
    from twinlock_broker.top.app import Top  # it takes a while to load, and no other command needs it

    return Top(path, picture).run() or os.EX_OK


def _print_again_and_again(path: Path) -> NoReturn:
    while True:
        print(status.picture(ask(path, {"request": "status"})), flush=True)
        time.sleep(PERIOD)
