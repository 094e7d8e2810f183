"""`twinlock-client enroll`: learn the key with which an account signs its results."""

import argparse
from pathlib import Path

from twinlock_signed import result_key
from twinlock_signed.errors import Refused

from twinlock_client import user
from twinlock_client.commands import arguments, remote
from twinlock_client.records import enrolled
from twinlock_client.records.enrolled import Enrolled

_READ = "cat .local/state/twinlock/result.pub"

_MOST = 1 << 16
"""Characters of a file."""

_DETAILS = """\
Without it nothing shows that a result is your account's, so only results in JSON are read.

The key is read by ssh from ~/.local/state/twinlock/result.pub of the account, once. It is there when the account has
run its first signed task. Where you can't log in, ask the site: its administrator's `twinlock verified ACCOUNT` prints
the line. Take it on a way that you trust, such as the site's web page, and give it as --file.

  twinlock-client enroll ada@cluster.example.org 11111111-2222-4333-8444-555555555555
"""


def add(commands: arguments.Commands) -> argparse.ArgumentParser:
    """Add the subcommand."""
    made = arguments.command(commands, "enroll", "learn the key with which your account signs its results", _DETAILS)
    arguments.add_user(made)
    arguments.add_endpoint(made)
    arguments.add_ssh(made)
    made.add_argument("--file", metavar="FILE", type=Path, help="take the key from a file that the site hands out")
    made.add_argument("--replace", action="store_true", help="also if another key is enrolled")
    return made


def run(options: argparse.Namespace) -> int:
    """Enroll the key. Raise `Refused` or `OSError` if there is none."""
    account, manager = user.read(options.user), user.read_endpoint(options.endpoint)
    key = result_key.read_public(_read(options.file) if options.file else _fetch(options))
    enrolled.add(Enrolled(account, manager, key), instead=options.replace)
    print(f"enrolled: results of {account} at {manager} have to be signed by {key}")
    return 0


def _read(path: Path) -> str:
    with path.open(errors="replace") as file:
        return file.read(_MOST)


def _fetch(options: argparse.Namespace) -> str:
    try:
        return remote.run(options.ssh or options.user, _READ)
    except Refused as error:
        raise Refused(
            f"{error}. If the file isn't there, the account hasn't run signed work yet: submit a task, whose result "
            "will be JSON, then enroll. If you can't log in, ask the site for the key, and use --file"
        ) from None
