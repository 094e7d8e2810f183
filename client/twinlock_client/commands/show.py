"""`twinlock-client show`: what this computer has enrolled, and which delegations of its own are valid."""

import argparse
from datetime import datetime

from twinlock_client.commands import arguments
from twinlock_client.records import enrolled, issued

_DETAILS = """\
  twinlock-client show
"""


def add(commands: arguments.Commands) -> argparse.ArgumentParser:
    """Add the subcommand."""
    return arguments.command(commands, "show", "list enrolled keys, and delegations that are valid", _DETAILS)


def run(options: argparse.Namespace) -> int:
    """Print both. Raise `Refused` or `OSError` if they can't be read."""
    keys, delegations = enrolled.read(), issued.read()
    print("enrolled result keys:" if keys else "enrolled result keys: none, so only results in JSON are read")
    for each in keys:
        print(f"  {each.user} at {each.manager}: {each.key}")
    print("valid delegations:" if delegations else "valid delegations: none")
    for made in delegations:
        print(f"  {made.id}  {made.account} at {made.manager}, {_moment(made.issued)} to {_moment(made.expires)}")
    return 0


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")
