"""``twinlock map``: the account that an identity leads to, and the rule that says so."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command, find_folder
from twinlock_broker.config.folder import open_folder
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity import account
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.rules import describe_rule, read_identities
from twinlock_broker.printable import printable_lines

_ANY = "00000000-0000-0000-0000-000000000000"
_EXAMPLES = """\
IDENTITY is a file with one identity document as Globus Auth has it, or a list of them: an object with "id" (or "sub"),
"username", "email", "name", ... ; - is standard input. Or it is a username alone, such as ada@example.org.

  echo '{"id": "7b1f2f6e-0000-4000-8000-000000000001", "username": "ada@example.org"}' | \\
    twinlock map -e /etc/twinlock/endpoint -

prints the account, the identity that led to it, and the rule: the mapper of the file (0 is the first), and of an
expression mapper the mapping. Standard error says so if the account doesn't exist on this host.
exit codes: 0 mapped; 67 not mapped; 65 no identity document; 66 a file is missing; 78 configuration
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "map",
        "show which account an identity is mapped to",
        _EXAMPLES,
        description="Map an identity as the broker would.",
    )
    made.add_argument("identity", metavar="IDENTITY", help="file with the identity document (JSON), or a username")
    where = made.add_mutually_exclusive_group(required=True)
    where.add_argument("-e", "--endpoint", metavar="DIR", help="endpoint folder whose mapping is used")
    where.add_argument("-m", "--mapping", metavar="FILE", type=Path, help="identity mapping to use (JSON)")
    made.add_argument("--json", action="store_true", help="print an object with account, identity, mapper, mapping")
    return made


def run(given: argparse.Namespace) -> int:
    """Print the account and the rule, and return the exit code."""
    path = given.mapping or _mapping(given.endpoint)
    identities = read_identities(given.identity)
    try:
        match = Mapper(path, _ANY).map(identities)[0]
    except CommandError as error:
        print(f"twinlock: {printable_lines(error.text)}", file=sys.stderr)
        return os.EX_NOUSER
    rule = describe_rule(path, match, identities)
    if given.json:
        print(
            json.dumps(
                {"account": match.user, "identity": match.identity, "mapper": rule.mapper, "mapping": rule.mapping}
            )
        )
    else:
        print(printable_lines(f"{match.user}\nby identity {match.identity}, {rule}"))
    _look_up(match.user)
    return os.EX_OK


def _look_up(user: str) -> None:
    try:
        account.look_up(user)
    except CommandError:
        print(
            f"twinlock: there is no account {account.shown(user)} on this host; the broker would refuse the user",
            file=sys.stderr,
        )


def _mapping(name: str) -> Path:
    folder = open_folder(find_folder(name))
    if folder.mapping_path is None:
        raise Fatal(os.EX_CONFIG, f"{folder.path / 'config.yaml'}: identity_mapping_config_path isn't set")
    return folder.mapping_path
