"""The messages between the broker and the spawner.

The socket is an AF_UNIX SOCK_SEQPACKET one, so that each datagram is one message. A message is one msgpack map of at
most `MAX_DATAGRAM` bytes: the key ``type`` with the message's name in lower case, and exactly the message's fields,
each of exactly its type and within its length. Whatever differs is a `WireError`; the receiver closes the connection.
Only `Spawn` carries file descriptors (SCM_RIGHTS), and exactly two: the child's stdin and its output.

Every message, sent or received, has passed `check`: the sender can't build one that the receiver would refuse.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgpack

VERSION = 1
"""The protocol's oldest version that a spawner still understands. A broker that doesn't know it doesn't go on."""

WITH_COMMAND = 2
"""The version since which Spawn may name a command."""

VERSIONS = (VERSION, WITH_COMMAND)
"""A spawner says Hello with each, in this order. A broker of version 1 goes by the first and passes over the others."""

MAX_DATAGRAM = 16384
"""Bytes of one message: the cap of OpenBSD's imsg."""

SPAWN_FDS = 2
"""File descriptors that come with Spawn: the child's stdin, and what becomes its stdout and stderr."""

MAX_TEXT = 2000
"""Characters of a reason; the longest fits into a datagram."""

MAX_PAGE = 40
"""Rows of a page of the table; so many of the longest fit into a datagram."""

_MAX_NUMBER = 2**31 - 1
"""Of process ids and wait statuses, as the kernel has them."""

_UUID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_WORD = "[a-z][a-z0-9_-]{0,31}"

_TEXTS = {
    "id": _UUID,
    "command": "([0-9a-f]{8})?",
    "name": rf"uep\.{_UUID}\.{_UUID}",
    "user": r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}\$?",
    "program": _WORD,
    "stage": _WORD,
    "signal": "TERM|KILL",
    "reason": rf"[^\ud800-\udfff]{{0,{MAX_TEXT}}}",
}
"""What a text may be, by the name of its field; a field of the same name means the same in every message.

All other fields are numbers, from 0 to `_MAX_NUMBER`.
"""


class WireError(ValueError):
    """A message that breaks the protocol. The text is safe to log: it holds none of the peer's bytes."""


# Requests.


class Spawn(NamedTuple):
    """Start the policy's `program` for the local account `user`; answered by Spawned or Refused."""

    id: str
    """The user endpoint's uuid, here and below."""

    user: str
    name: str
    """The endpoint's full name, ``uep.<manager uuid>.<endpoint uuid>``, here and below."""

    program: str
    command: str = ""
    """The id of the command that it is for, which the user sees in errors; the field is left out where it is empty."""


class Signal(NamedTuple):
    """Send TERM or KILL; answered by Refused if at all, since the end shows as Exited."""

    id: str
    signal: str


class List(NamedTuple):
    """Ask for the table, which comes as Children."""


class Noted(NamedTuple):
    """The broker knows of an end; the spawner may forget it."""

    id: str


# Replies.


class Hello(NamedTuple):
    """The first messages on a connection, one for each of `VERSIONS`."""

    version: int


class Spawned(NamedTuple):
    """The program runs under the process id `pid`."""

    id: str
    pid: int


class Refused(NamedTuple):
    """The request about `id` failed at `stage` because of `reason`, a text for a person."""

    id: str
    stage: str
    reason: str


class Exited(NamedTuple):
    """The endpoint ended with the wait status `status` (waitpid(2)), and with it all that it had started here."""

    id: str
    pid: int
    status: int


class Child(NamedTuple):
    """A row of the table. `ended` is None while the endpoint runs, and then its wait status."""

    id: str
    pid: int
    user: str
    name: str
    ended: int | None


class Children(NamedTuple):
    """A page of the table, the last one if it has fewer than MAX_PAGE rows. A row is the array of a Child."""

    children: list[Child]


Request = Spawn | Signal | List | Noted
Reply = Hello | Spawned | Refused | Exited | Children

REQUESTS: Mapping[str, Any] = {"spawn": Spawn, "signal": Signal, "list": List, "noted": Noted}
REPLIES: Mapping[str, Any] = {
    "hello": Hello,
    "spawned": Spawned,
    "refused": Refused,
    "exited": Exited,
    "children": Children,
}
"""The messages of each direction by what stands under ``type``."""


def encode(message: Request | Reply) -> bytes:
    """Return the datagram for `message`, which always fits. Raises `WireError` where a field breaks its rule."""
    if isinstance(message, Children):
        for row in message.children:
            check(row)
    else:
        check(message)
    values = {"type": type(message).__name__.lower(), **message._asdict()}
    if values.get("command") == "":
        del values["command"]  # a spawner of version 1 knows no such field
    return bytes(msgpack.packb(values))


def decode(data: bytes, kinds: Mapping[str, Any]) -> Any:
    """Return the message in one datagram, which is one of `kinds` (`REQUESTS` or `REPLIES`). Raises `WireError`.

    Bytes that aren't exactly what `encode` makes of the message are refused: a key that stands twice, another order
    or a longer form of a number might mean something else to another reader.
    """
    if len(data) > MAX_DATAGRAM:
        raise WireError(f"a datagram of {len(data)} bytes or more")
    try:
        values = msgpack.unpackb(data)
        message = kinds[values.pop("type")](**values)
        if isinstance(message, Children):
            message = Children([Child(*row) for row in message.children])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"{len(data)} bytes that are no message: {type(error).__name__}") from error
    if encode(message) != data:
        raise WireError(f"{type(message).__name__}: not in its only form")
    return message


def check(message: Request | Reply | Child) -> None:
    """Raise `WireError` unless every field follows its rule."""
    for name, value in message._asdict().items():
        if not _is_legal(name, value):
            raise WireError(f"{type(message).__name__}: bad {name}")


def _is_legal(name: str, value: object) -> bool:
    if name in _TEXTS:
        return isinstance(value, str) and re.fullmatch(_TEXTS[name], value) is not None
    if name == "ended" and value is None:
        return True
    return type(value) is int and 0 <= value <= _MAX_NUMBER
