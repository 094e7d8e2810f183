"""The file of ``twinlock render --mapped-identity``: who a template is rendered for, as `_GC.mapped_identity` has it.

It is a JSON object with `local`, the account, and `globus`, the identity that led to it. What is left out is taken from
the account that runs the command. An unknown field is refused: otherwise the rendering would be for somebody else.
"""

import difflib
import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from twinlock_common.account import Account

from twinlock_broker.errors import Fatal
from twinlock_broker.identity import account
from twinlock_broker.identity.mapping import Match

_NOBODY = "00000000-0000-0000-0000-000000000000"
_IDENTITY = "globus.id"
_ACCOUNT = {
    "local.uname": "name",
    "local.uid": "uid",
    "local.gid": "gid",
    "local.groups": "groups",
    "local.gecos": "gecos",
    "local.shell": "shell",
    "local.dir": "home",
}
"""The fields of the account as templates know them, and as `Account` has them."""


def read(described: Mapping[str, Any], source: str) -> tuple[Account, Match]:
    """Return the account and the match that the file `source` describes.

    Raises:
        Fatal: 65, a field isn't known, or has a value of the wrong type.
    """
    given = dict(_flat(described))
    known = [*_ACCOUNT, _IDENTITY]
    unknown = [field for field in given if field not in known]
    if unknown:
        names = ", ".join(map(repr, unknown))
        raise Fatal(os.EX_DATAERR, f"{source}: unknown field {names}; {_nearest(unknown[0], known)}")
    for field, value in given.items():
        _check(source, field, value)
    identity = given.pop(_IDENTITY, _NOBODY)
    changes: dict[str, Any] = {
        _ACCOUNT[field]: tuple(value) if isinstance(value, list) else value for field, value in given.items()
    }
    who = replace(own(), **changes)
    return who, Match(who.name, identity)


def own() -> Account:
    """Return the account that runs the command."""
    return account.look_up(pwd.getpwuid(os.getuid()).pw_name)


def _flat(described: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for part, value in described.items():
        if isinstance(value, dict) and part in ("local", "globus"):
            yield from ((f"{part}.{name}", inner) for name, inner in value.items())
        else:
            yield part, value


def _check(source: str, field: str, value: object) -> None:
    if field == "local.groups":
        wanted, good = "a list of numbers", isinstance(value, list) and all(type(group) is int for group in value)
    elif field in ("local.uid", "local.gid"):
        wanted, good = "a number", type(value) is int
    else:
        wanted, good = "a text", isinstance(value, str)
    if not good:
        raise Fatal(os.EX_DATAERR, f"{source}: {field} has to be {wanted}")


def _nearest(field: str, known: list[str]) -> str:
    by_name = {name.rpartition(".")[2]: name for name in known}
    near = difflib.get_close_matches(field.rpartition(".")[2], by_name, n=1)
    return f"did you mean {by_name[near[0]]!r}?" if near else f"known are {', '.join(known)}"
