"""`twinlock-service user`: add, list and remove users, make and revoke their tokens."""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from twinlock_service.errors import StartError
from twinlock_service.users.digests import digest, token_id
from twinlock_service.users.editing import edited, new_token
from twinlock_service.users.users_file import USER_NAME, Settings, TokenEntry, UserEntry, read_users_file

DEFAULT_FILE = Path("/etc/twinlock-service/users.yaml")

Commands: TypeAlias = "argparse._SubParsersAction[Any]"  # noqa: SLF001 - argparse has no public name for this type
Run = Callable[[argparse.Namespace], None]

_DEFAULT_DAYS = Settings.model_fields["token_days"].default

_EXIT_CODES = """\
exit codes: 0 done; 65 the users file or the change is invalid; 66 no such file; 67 no such user or token;
  77 the file isn't yours; 100 usage; 111 the system refused something
"""


def add(commands: Commands) -> None:
    """Add the command `user` to the program's command line."""
    group = commands.add_parser(
        "user",
        help="users and their tokens",
        description="Users of the service and their tokens. A running service follows each change within a second.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made = group.add_subparsers(metavar="COMMAND", required=True)
    _add_parser(made)
    _command(made, "list", _list, "list the users and their tokens").add_argument(
        "--json", action="store_true", help="as JSON, for programs"
    )
    _named(made, "token", _token, "make another token for a user, and print it only this once")
    revoke = _named(made, "revoke", _revoke, "revoke a user's tokens, and end the user's connections")
    revoke.add_argument("tokens", nargs="*", metavar="TOKEN", help="ids as `user list` shows them (default: all)")
    _named(made, "remove", _remove, "remove a user, and end the user's and the user's endpoints' connections")


def _add_parser(commands: Commands) -> None:
    parser = _named(commands, "add", _add, "add a user, and print the first token only this once")
    parser.add_argument("--id", type=uuid.UUID, metavar="UUID", help="Globus identity (default: a new uuid)")
    parser.add_argument("--name", default="", help="full name")
    parser.add_argument("--email", default="", help="address (default: the user name, if it looks like one)")
    parser.add_argument("--organization", default="", help="where the user works")
    parser.add_argument(
        "--administrator", action="store_true", help="may see what all users have on the service's page"
    )


def _named(commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    parser = _command(commands, name, run, text)
    user = parser.add_argument("user", metavar="USER", type=_user_name, help="user name, such as ada@site.example")
    if name != "add":
        user.completer = _complete_users  # type: ignore[attr-defined]  # argcomplete's
    if name in ("add", "token"):
        parser.add_argument("--days", type=_days, help=f"how long it is valid (default: token_days, {_DEFAULT_DAYS})")
    return parser


def _command(commands: Commands, name: str, run: Run, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--users", metavar="FILE", type=Path, default=argparse.SUPPRESS, help=f"the users file (default {DEFAULT_FILE})"
    )
    parser.set_defaults(run=run)
    return parser


def _add(options: argparse.Namespace) -> None:
    with edited(options.users, create=True) as users:
        if options.user in users:
            text = f"there is a user {options.user} already; `twinlock-service user token {options.user}` makes a token"
            raise StartError(os.EX_DATAERR, text)
        token, entry = new_token(_lifetime(options))
        details = {name: getattr(options, name) for name in ("name", "email", "organization", "administrator")}
        given = {name: value for name, value in details.items() if value}
        users[options.user] = {"id": str(options.id or uuid.uuid4()), **given, "tokens": [entry]}
    _show(options.user, token, entry)


def _token(options: argparse.Namespace) -> None:
    with edited(options.users) as users:
        user = _find(users, options)
        token, entry = new_token(_lifetime(options))
        former = [
            each for each in user.get("tokens", []) if TokenEntry.model_validate(each).expires > datetime.now(UTC)
        ]
        user["tokens"] = [*former, entry]
    _show(options.user, token, entry)


def _revoke(options: argparse.Namespace) -> None:
    with edited(options.users) as users:
        user = _find(users, options)
        known = user.get("tokens", [])
        missing = set(options.tokens) - {token_id(each["sha256"]) for each in known}
        if missing:
            text = (
                f"user {options.user} has no token {' '.join(sorted(missing))}; `twinlock-service user list` shows ids"
            )
            raise StartError(os.EX_NOUSER, text)
        gone = options.tokens or [token_id(each["sha256"]) for each in known]
        user["tokens"] = [each for each in known if token_id(each["sha256"]) not in gone]
    print(f"revoked: {len(gone)}; tokens that remain: {len(user['tokens'])}")


def _remove(options: argparse.Namespace) -> None:
    with edited(options.users) as users:
        _find(users, options)
        del users[options.user]
    print(f"{options.user} is removed")


def _list(options: argparse.Namespace) -> None:
    users = read_users_file(options.users).users
    if options.json:
        print(json.dumps({name: _document(entry) for name, entry in users.items()}, indent=2))
        return
    rows = [
        ("USER", "IDENTITY", "TOKEN", "CREATED", "EXPIRES"),
        *(row for each in users.items() for row in _rows(*each)),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _rows(name: str, entry: UserEntry) -> Iterator[tuple[str, str, str, str, str]]:
    shown = f"{name} (administrator)" if entry.administrator else name
    if entry.token is not None:
        yield shown, str(entry.id), token_id(digest(entry.token.get_secret_value())), "by hand", ""
    elif not entry.tokens:
        yield shown, str(entry.id), "none", "", ""
    for token in entry.tokens:
        expires = _day(token.expires) + (" (expired)" if token.expires <= datetime.now(UTC) else "")
        yield shown, str(entry.id), token_id(token.sha256), _day(token.created), expires


def _document(entry: UserEntry) -> dict[str, Any]:
    tokens = [
        {"token": token_id(each.sha256), "created": each.created.isoformat(), "expires": each.expires.isoformat()}
        for each in entry.tokens
    ]
    return {"id": str(entry.id), "administrator": entry.administrator, "tokens": tokens}


def _find(users: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    if options.user not in users:
        raise StartError(os.EX_NOUSER, f"users file {options.users} has no user {options.user}")
    found: dict[str, Any] = users[options.user]
    return found


def _lifetime(options: argparse.Namespace) -> int:
    if options.days is not None:
        return int(options.days)
    return read_users_file(options.users).service.token_days if options.users.exists() else int(_DEFAULT_DAYS)


def _show(user: str, token: str, entry: dict[str, Any]) -> None:
    print(token, flush=True)
    until = _day(datetime.fromisoformat(entry["expires"]))
    print(f"This is the token of {user}, good until {until}. It can't be shown again.", file=sys.stderr)


def _day(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")


def _user_name(text: str) -> str:
    if not re.fullmatch(USER_NAME, text):
        raise argparse.ArgumentTypeError("a user name has at most 256 characters, and no spaces or control characters")
    return text


def _days(text: str) -> int:
    days = int(text) if text.isascii() and text.isdigit() else 0
    if not 1 <= days <= 3650:
        raise argparse.ArgumentTypeError(f"{text} is not a number of days from 1 to 3650")
    return days


def _complete_users(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    try:
        return list(read_users_file(parsed_args.users or DEFAULT_FILE).users)
    except StartError:
        return []
