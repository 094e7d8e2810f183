"""``twinlock verified``: whose signatures count for an account, and the key with which it signs results."""

import argparse
import json
import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.signers import asking

DEFAULT = Path("/etc/twinlock/verified.toml")
_LINE = "twinlock-result-key-v1"
_EXAMPLES = """\
  sudo twinlock verified ada
  sudo twinlock verified ada | grep ^twinlock-result-key-v1 > ada.key

For each source of signers in verified.toml it prints the keys that are for the account, and the lines that are skipped,
each with the reason. A key that can't sign at the moment has DOESN'T COUNT and the reason. Then it prints what the user
has revoked in ~/.config/twinlock/revoked, and the public key of the account's results. With that line in a file, a user
who can't log in enrolls: twinlock-client enroll USER@SITE UUID --file ada.key

It looks as the account's endpoints do, in a process that runs as the account. Whoever runs programs as the account can
make it print something else, so believe it no more than the account. Root's sources you can read yourself. Only root,
or the account itself, may ask. It changes nothing.

--json prints one object: "account"; "site"; "manager", the endpoint's uuid; "sources", a list of
objects with "source", "problem" (why it has no signers, or an empty text), "signers", "more_signers" (how many aren't
listed), "skipped" (texts), "more_skipped"; "revoked", an object with "delegations" (ids), "more_delegations", "before"
(a time); "problems", why nothing of the account's runs; "result_key", 64 hexadecimal digits; "no_result_key", why there
is none. A signer has "kind", "bits", "fingerprint", "is_authority" (it certifies other keys), "principals" (the names
that it is for), "valid_after" and "valid_before" (as the line has them), "problem" (why it doesn't count).
exit codes: 0 somebody can sign for the account; 66 verified.toml doesn't exist; 67 no such account, or it is root;
  70 no answer, please report it; 75 no answer in time: a home or a command hangs; 77 ask as root; 78 nobody can sign
  for it, or verified.toml, or what it names, can't be used
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "verified",
        "list the keys that may sign work for an account",
        _EXAMPLES,
        description="List the keys that may sign work for an account in verified mode, and the key of its results.",
    )
    user = made.add_argument("user", metavar="USER", help="the local account")
    user.completer = _complete_account  # type: ignore[attr-defined]
    made.add_argument(
        "--config",
        metavar="FILE",
        type=Path,
        default=DEFAULT,
        help="the file that endpoints are started with, after --verified (default %(default)s)",
    )
    made.add_argument("--json", action="store_true", help="print one JSON object, see below")
    return made


def run(given: argparse.Namespace) -> int:
    """Print what there is and return the exit code."""
    found = asking.ask(given.config, given.user)
    if given.json:
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_lines(found)))
    return os.EX_OK if _can_sign(found) else os.EX_CONFIG


def _can_sign(found: dict[str, Any]) -> bool:
    return not found["problems"] and any(_counting(source) for source in found["sources"])


def _counting(source: dict[str, Any]) -> list[dict[str, Any]]:
    return [signer for signer in source["signers"] if not signer["problem"]]


def _lines(found: dict[str, Any]) -> Iterator[str]:
    yield f"{found['account']}@{found['site']} at the endpoint {found['manager']}"
    for source in found["sources"]:
        yield f"signers of {source['source']}:"
        yield from (f"  {line}" for line in _of_source(source))
    yield from (f"NOTHING RUNS: {problem}" for problem in found["problems"])
    if not _can_sign(found):
        yield "NOBODY CAN SIGN for the account"
    yield from _revoked(found["revoked"])
    if found["result_key"]:
        yield "the key of its results, for users:"
        yield f"{_LINE} {found['result_key']}"
    else:
        yield f"no key of its results: {found['no_result_key']}"


def _of_source(source: dict[str, Any]) -> Iterator[str]:
    if source["problem"]:
        yield f"none: {source['problem']}"
    elif not source["signers"]:
        yield "none"
    yield from map(_signer, source["signers"])
    if source["more_signers"]:
        yield f"and {source['more_signers']} more"
    yield from (f"skipped: {reason}" for reason in source["skipped"])
    if source["more_skipped"]:
        yield f"skipped: {source['more_skipped']} more"


def _signer(signer: dict[str, Any]) -> str:
    what = "certificate authority" if signer["is_authority"] else "key"
    size = f" {signer['bits']}" if signer["bits"] else ""
    parts = [f"{signer['fingerprint'] or '(no fingerprint)'} {signer['kind']}{size}, {what} of {signer['principals']}"]
    parts += [f"from {signer['valid_after']} on"] if signer["valid_after"] else []
    parts += [f"until {signer['valid_before']}"] if signer["valid_before"] else []
    parts += [f"DOESN'T COUNT: {signer['problem']}"] if signer["problem"] else []
    return ", ".join(parts)


def _revoked(revoked: dict[str, Any]) -> Iterator[str]:
    if revoked["before"]:
        yield f"revoked by the user: all delegations that were issued before {revoked['before']}"
    yield from (f"revoked by the user: the delegation {each}" for each in revoked["delegations"])
    if revoked["more_delegations"]:
        yield f"revoked by the user: {revoked['more_delegations']} more delegations"
    if not revoked["before"] and not revoked["delegations"]:
        yield "revoked by the user: nothing"


def _complete_account(prefix: str, **_: Any) -> list[str]:
    """Return the accounts that there are, for tab completion."""
    return [row.pw_name for row in pwd.getpwall() if row.pw_uid and row.pw_name.startswith(prefix)]
