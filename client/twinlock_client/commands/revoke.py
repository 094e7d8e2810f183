"""`twinlock-client revoke`: have the site refuse delegations that were made before."""

import argparse
from datetime import datetime, timedelta, timezone

from twinlock_signed.delegation import ID
from twinlock_signed.errors import Refused

from twinlock_client import user
from twinlock_client.commands import arguments, remote

_APPEND = "umask 077 && mkdir -p .config/twinlock && cat >> .config/twinlock/revoked"

_DETAILS = """\
A line is added to ~/.config/twinlock/revoked of the account, by ssh; from then on its endpoints refuse the delegation,
those that have it already within five minutes. Tasks that run go on. Where you can't log in, --print shows the line,
for the site's administrator to add. A stolen SSH key has to be removed at the site itself.

  twinlock-client revoke ada@cluster.example.org 4f1c3a0b6c1e4d5f8a7b9c0d1e2f3a4b
  twinlock-client revoke ada@cluster.example.org --all
"""


def add(commands: arguments.Commands) -> argparse.ArgumentParser:
    """Add the subcommand."""
    made = arguments.command(commands, "revoke", "have the site refuse delegations that you have made", _DETAILS)
    arguments.add_user(made)
    which = made.add_mutually_exclusive_group(required=True)
    which.add_argument("id", metavar="ID", nargs="?", help="one delegation; `twinlock-client show` lists them")
    which.add_argument("--all", action="store_true", help="all that were made before this moment")
    arguments.add_ssh(made)
    made.add_argument("--print", action="store_true", help="only print the line")
    return made


def run(options: argparse.Namespace) -> int:
    """Revoke. Raise `Refused` if that can't be."""
    account = user.read(options.user)
    line = _line(options)
    if options.print:
        print(line)
        return 0
    # After a line that somebody has left without its end, it would otherwise be a part of that.
    remote.run(options.ssh or options.user, _APPEND, f"\n{line}\n")
    print(f"revoked for {account}: {line}")
    return 0


def _line(options: argparse.Namespace) -> str:
    if options.all:
        end = datetime.now(timezone.utc) + timedelta(seconds=1)  # since times of issue have no fractions
        return f"before {end:%Y-%m-%dT%H:%M:%SZ}"
    if not ID.accepts(options.id):
        raise Refused(f"delegation {options.id[:100]!r}: it is not {ID.words}; `twinlock-client show` lists them")
    return str(options.id)
