"""``twinlock top``: the status, printed again and again."""

import argparse
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands import status
from twinlock_broker.commands.ask import add_socket

_EXAMPLES = """\
  sudo twinlock top

exit codes: 0 Ctrl-C; 69 no broker there; 75 no answer; 76 not a broker's answer; 77 ask as root
"""

run = status.watch


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "top",
        "watch the user endpoints of the running broker",
        _EXAMPLES,
        description=f"Show the user endpoints of the running broker, again every {status.PERIOD:.0f} s, until Ctrl-C.",
    )
    add_socket(made)
    return made
