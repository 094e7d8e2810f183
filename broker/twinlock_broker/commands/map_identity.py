"""``twinlock map``: which account an identity leads to, and by which rule."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from globus_identity_mapping.loader import load_mappers

from twinlock_broker.command_line import find_folder, read_json
from twinlock_broker.config.folder import open_folder
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity import account
from twinlock_broker.identity.documents import read_documents
from twinlock_broker.identity.mapping import POSIX_CONNECTOR, Mapper
from twinlock_broker.printable import printable_lines

_ANY = "00000000-0000-0000-0000-000000000000"
_TEXTS = ("username", "email", "name", "organization", "identity_provider", "identity_provider_display_name")
_BLANK = dict.fromkeys(_TEXTS, "") | {"last_authentication": None, "identity_type": "login", "status": "used"}
_EXAMPLES = """\
IDENTITY is a file with one identity document as Globus Auth has it, or a list of them: an object with "id" (or "sub"),
"username", "email", "name", ... ; - is standard input.

  echo '{"id": "7b1f2f6e-0000-4000-8000-000000000001", "username": "ada@example.org"}' | \\
    twinlock map -e /etc/twinlock/endpoint -

prints the account, the identity that led to it, and the rule: the mapper of the file (0 is the first), and of an
expression mapper the mapping. That an account isn't on this host is told on standard error.
exit codes: 0 mapped; 67 nobody; 65 no identity document; 66 a file is missing; 78 configuration
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "map",
        help="show which account an identity is mapped to",
        description="Map an identity as the broker would.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("identity", metavar="IDENTITY", help="file with the identity document (JSON)")
    where = made.add_mutually_exclusive_group(required=True)
    where.add_argument("-e", "--endpoint", metavar="DIR", help="endpoint folder whose mapping is used")
    where.add_argument("-m", "--mapping", metavar="FILE", type=Path, help="identity mapping to use (JSON)")
    made.add_argument("--json", action="store_true", help="print an object with account, identity, mapper, mapping")
    return made


def run(given: argparse.Namespace) -> int:
    """Print the account and the rule; the exit code."""
    path = given.mapping or _mapping(given.endpoint)
    identities = _identities(given.identity)
    try:
        match = Mapper(path, _ANY).map(identities)[0]
    except CommandError as error:
        print(f"twinlock: {printable_lines(error.text)}", file=sys.stderr)
        return os.EX_NOUSER
    index = next(number for number, matches in enumerate(match.candidates) if any(any(m.values()) for m in matches))
    number, rule = _rule(read_documents(path)[index], identities)
    if given.json:
        print(json.dumps({"account": match.user, "identity": match.identity, "mapper": index, "mapping": number}))
    else:
        print(printable_lines(f"{match.user}\nby identity {match.identity}, mapper {index}{rule}"))
    _look_up(match.user)
    return os.EX_OK


def _rule(document: dict[str, Any], identities: list[dict[str, Any]]) -> tuple[int | None, str]:
    """Which of an expression mapper's mappings it was, and that in words."""
    for number, rule in enumerate(document.get("mappings") or ()):
        [alone] = load_mappers([document | {"mappings": [rule]}], POSIX_CONNECTOR, _ANY)
        if any(any(match.values()) for match in alone.map_identities(identities)):
            return number, f", mapping {number}: {rule['source']} matches {rule['match']}, so {rule['output']}"
    return None, ""


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


def _identities(name: str) -> list[dict[str, Any]]:
    """The documents, each with both names of its uuid."""
    found = read_json(name)
    documents = found if isinstance(found, list) else [found]
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("id", document.get("sub")), str):
            raise Fatal(os.EX_DATAERR, f"{name}: an identity is a JSON object with a text under 'id' or 'sub'")
    ids = [item.get("id", item.get("sub")) for item in documents]
    return [_BLANK | {"id": found, "sub": found} | item for found, item in zip(ids, documents, strict=True)]
