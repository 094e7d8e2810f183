"""The messages between the broker and the spawner.

The socket is an AF_UNIX SOCK_SEQPACKET one, so that each datagram is one message. A message is one msgpack map of at
most `MAX_DATAGRAM` bytes: the key ``type`` with the message's name in lower case, and exactly the message's fields,
each of exactly its type and within its length. Whatever differs is a `WireError`; the receiver closes the connection.
Only `Spawn` carries file descriptors (SCM_RIGHTS), and exactly two: the child's stdin and its output.

Every message, sent or received, has passed `check`: the sender can't build one that the receiver would refuse.
"""

import re
from collections import namedtuple

import msgpack

TYPE_CHECKING = False  # for who checks the types, these tuples' fields have some; typing isn't small
if TYPE_CHECKING:
    from typing import Any, NamedTuple
else:
    NamedTuple = lambda name, fields: namedtuple(name, dict(fields))  # noqa: E731


# The protocol's version, in Hello: a broker that meets another one doesn't go on. Bytes of one message: the cap of
# OpenBSD's imsg. File descriptors that come with Spawn: the child's stdin, and what becomes its stdout and stderr.
# Characters of a reason, and rows of a page of the table: so many of the longest legal ones fit into a datagram.
VERSION, MAX_DATAGRAM, SPAWN_FDS, MAX_TEXT, MAX_PAGE = 1, 16384, 2, 2000, 40

_UUID, _WORD = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[a-z][a-z0-9_-]{0,31}"
_IDS = {"id": _UUID, "name": rf"uep\.{_UUID}\.{_UUID}", "user": r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}\$?"}
# What a text may be, by the name of its field; a field of the same name means the same in every message.
_FORM = _IDS | {"program": _WORD, "stage": _WORD, "signal": "TERM|KILL", "reason": rf"[^\ud800-\udfff]{{0,{MAX_TEXT}}}"}


class WireError(ValueError):
    """A message that breaks the protocol. The text is safe to log: it holds none of the peer's bytes."""


# Requests. `id` is the user endpoint's uuid, `name` its full name ``uep.<manager uuid>.<endpoint uuid>``.
# Spawn: start the policy's `program` for the local account `user`; answered by Spawned or Refused.
# Signal: send TERM or KILL; answered by Refused if at all, since the end shows as Exited.
# List: asks for the table, which comes as Children. Noted: the broker knows of an end, the spawner may forget it.
Spawn = NamedTuple("Spawn", [("id", str), ("user", str), ("name", str), ("program", str)])
Signal = NamedTuple("Signal", [("id", str), ("signal", str)])
List = NamedTuple("List", [])
Noted = NamedTuple("Noted", [("id", str)])

# Replies. Hello: the first message on a connection. Spawned: the program runs under the process id `pid`.
# Refused: the request about `id` failed at `stage` because of `reason`, a text for a person.
# Exited: the endpoint ended with the wait status `status` (waitpid(2)), and with it all that it had started here.
# Children: a page of the table, the last one if it has fewer than MAX_PAGE rows. A row is the array of a Child, whose
# `ended` is None while the endpoint runs, and then its wait status.
Hello = NamedTuple("Hello", [("version", int)])
Spawned = NamedTuple("Spawned", [("id", str), ("pid", int)])
Refused = NamedTuple("Refused", [("id", str), ("stage", str), ("reason", str)])
Exited = NamedTuple("Exited", [("id", str), ("pid", int), ("status", int)])
Child = NamedTuple("Child", [("id", str), ("pid", int), ("user", str), ("name", str), ("ended", int | None)])
Children = NamedTuple("Children", [("children", list[Child])])

Request = Spawn | Signal | List | Noted
Reply = Hello | Spawned | Refused | Exited | Children
REQUESTS, REPLIES = ({kind.__name__.lower(): kind for kind in some.__args__} for some in (Request, Reply))


def encode(message: Request | Reply) -> bytes:
    """The datagram for `message`. Raises `WireError` where a field breaks its rule; every legal message fits."""
    for row in message.children if isinstance(message, Children) else [message]:
        check(row)
    return bytes(msgpack.packb({"type": type(message).__name__.lower()} | message._asdict()))


def decode(data: bytes, kinds: "dict[str, Any]") -> "Any":
    """The message in one datagram, which is one of `kinds` (`REQUESTS` or `REPLIES`). Raises `WireError`.

    Bytes that aren't exactly what `encode` makes of the message are refused: a key that stands twice, another order
    or a longer form of a number might mean something else to another reader.
    """
    try:
        values = msgpack.unpackb(data[: MAX_DATAGRAM + 1])
        kind = kinds[values.pop("type")]
        values |= {"children": [Child(*row) for row in values["children"]]} if kind is Children else {}
        message = kind(**values)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WireError(f"{len(data)} bytes that are no message: {type(error).__name__}") from error
    if len(data) > MAX_DATAGRAM or encode(message) != data:
        raise WireError(f"{type(message).__name__}: too long, or not in its only form")
    return message


def check(message: Request | Reply | Child) -> None:
    """Raise `WireError` unless every field follows its rule."""
    for name, value in message._asdict().items():
        text = type(value) is str and re.fullmatch(_FORM.get(name, "(?!)"), value)
        number = type(value) is int and 0 <= value < 2**31 and name not in _FORM
        if not (text or number or (name, value) == ("ended", None)):
            raise WireError(f"{type(message).__name__}: bad {name}")
