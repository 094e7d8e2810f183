"""The messages between the broker and the spawner.

The socket is an AF_UNIX SOCK_SEQPACKET one, so that each datagram is one message. A message is one msgpack map of at
most `MAX_DATAGRAM` bytes: the key ``type`` with the message's name in lower case, and exactly the message's fields,
each of exactly its type and within its length. Whatever differs is a `WireError`; the receiver closes the connection.
Only `Spawn` carries file descriptors (SCM_RIGHTS), and exactly two: the child's stdin and its output.

Every message decoded here has passed `Message.check`, on either side: the sender can't build one that the receiver
would refuse.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

import msgpack

VERSION = 1
"""The protocol's version, in `Hello`. A broker that meets another one doesn't go on."""

MAX_DATAGRAM = 16384
"""Bytes of one message; the cap of OpenBSD's imsg."""

SPAWN_FDS = 2
"""File descriptors that come with `Spawn`: the child's stdin, and the write end that becomes stdout and stderr."""

MAX_TEXT = 2000
"""Characters of a free text, such as a refusal's reason; four bytes each still fit into a datagram."""

MAX_PAGE = 40
"""Children in one `Children` message: 40 of the longest legal ones fit into a datagram."""

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_ID = re.compile(_UUID)
_NAME = re.compile(rf"uep\.{_UUID}\.{_UUID}")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+-]{0,63}\$?")
_WORD = re.compile(r"[a-z][a-z0-9_-]{0,31}")


class WireError(ValueError):
    """A message that breaks the protocol. The text is safe to log: it holds none of the peer's bytes unescaped."""


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: type(value) is str and pattern.fullmatch(value) is not None


def _text(value: Any) -> bool:
    return type(value) is str and len(value) <= MAX_TEXT


def _count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= 0x7FFFFFFF


# One rule a field name; a field of the same name means the same in every message.
_RULES: Mapping[str, Callable[[Any], bool]] = {
    "id": _matches(_ID),
    "user": _matches(_USER),
    "name": _matches(_NAME),
    "program": _matches(_WORD),
    "signal": lambda value: value in ("TERM", "KILL") and type(value) is str,
    "version": _count,
    "pid": _count,
    "status": _count,
    "stage": _matches(_WORD),
    "reason": _text,
    "more": lambda value: type(value) is bool,
    "children": lambda value: type(value) is list and len(value) <= MAX_PAGE,
}


@dataclass(frozen=True, slots=True)
class Message:
    """What every message can do; the fields are the subclass's."""

    TYPE: ClassVar[str]

    def check(self) -> None:
        """Raise `WireError` unless every field follows its rule."""
        for field in fields(self):
            if not _RULES[field.name](getattr(self, field.name)):
                raise WireError(f"{self.TYPE}: bad {field.name}")

    def to_map(self) -> dict[str, Any]:
        """The map that goes onto the wire."""
        return {"type": self.TYPE} | {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Spawn(Message):
    """Request: start the policy's `program` for the local account `user`; two file descriptors come with it.

    `id` is the user endpoint's uuid, `name` its full name ``uep.<manager uuid>.<endpoint uuid>``, the program's last
    argument. Answered by `Spawned` or `Refused`.
    """

    TYPE: ClassVar[str] = "spawn"
    id: str
    user: str
    name: str
    program: str


@dataclass(frozen=True, slots=True)
class Signal(Message):
    """Request: send TERM or KILL to the child `id`. No answer but `Refused`; the end shows as `Exited`."""

    TYPE: ClassVar[str] = "signal"
    id: str
    signal: str


@dataclass(frozen=True, slots=True)
class List(Message):
    """Request: the table of children, answered by one or more `Children`."""

    TYPE: ClassVar[str] = "list"


@dataclass(frozen=True, slots=True)
class Noted(Message):
    """Request: the broker took note of the end of child `id`; the spawner forgets it. Not answered."""

    TYPE: ClassVar[str] = "noted"
    id: str


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """First message of the spawner on a connection."""

    TYPE: ClassVar[str] = "hello"
    version: int


@dataclass(frozen=True, slots=True)
class Spawned(Message):
    """The child `id` runs its program under process id `pid`."""

    TYPE: ClassVar[str] = "spawned"
    id: str
    pid: int


@dataclass(frozen=True, slots=True)
class Refused(Message):
    """The request about `id` was not carried out: it failed at `stage` because of `reason` (a text for a person)."""

    TYPE: ClassVar[str] = "refused"
    id: str
    stage: str
    reason: str


@dataclass(frozen=True, slots=True)
class Exited(Message):
    """The child `id` ended with the wait status `status` (waitpid(2)), and with it all that it had started here."""

    TYPE: ClassVar[str] = "exited"
    id: str
    pid: int
    status: int


@dataclass(frozen=True, slots=True)
class Child:
    """One row of the table. `status` is None while the child runs, else its wait status."""

    id: str
    pid: int
    user: str
    name: str
    status: int | None

    def check(self) -> None:
        """Raise `WireError` unless every field follows its rule."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not (_RULES[field.name](value) or (field.name == "status" and value is None)):
                raise WireError(f"children: bad {field.name}")


@dataclass(frozen=True, slots=True)
class Children(Message):
    """A page of the table; `more` says that another one follows."""

    TYPE: ClassVar[str] = "children"
    children: list[Child]
    more: bool

    def check(self) -> None:
        """Raise `WireError` unless the page and each of its rows follow the rules."""
        Message.check(self)
        for child in self.children:
            child.check()

    def to_map(self) -> dict[str, Any]:
        """The map that goes onto the wire; a row is the array of its fields in order."""
        rows = [[getattr(child, field.name) for field in fields(child)] for child in self.children]
        return {"type": self.TYPE, "children": rows, "more": self.more}


Request = Spawn | Signal | List | Noted
Reply = Hello | Spawned | Refused | Exited | Children

_Kind = TypeVar("_Kind", bound=Message)

_REQUESTS: dict[str, type[Request]] = {kind.TYPE: kind for kind in (Spawn, Signal, List, Noted)}
_REPLIES: dict[str, type[Reply]] = {kind.TYPE: kind for kind in (Hello, Spawned, Refused, Exited, Children)}


def encode(message: Request | Reply) -> bytes:
    """The datagram for `message`. Raises `WireError` where a field breaks its rule; every legal message fits."""
    message.check()
    data: bytes = msgpack.packb(message.to_map())
    return data


def decode_request(data: bytes) -> Request:
    """The broker's request in one datagram. Raises `WireError`."""
    kind, values = _decode(data, _REQUESTS)
    request = kind(**values)
    request.check()
    return request


def decode_reply(data: bytes) -> Reply:
    """The spawner's reply in one datagram. Raises `WireError`."""
    kind, values = _decode(data, _REPLIES)
    if kind is Children and type(values["children"]) is list:
        values["children"] = [_decode_row(row) for row in values["children"]]
    reply = kind(**values)
    reply.check()
    return reply


def _decode_row(row: Any) -> Child:
    if type(row) is not list or len(row) != len(fields(Child)):
        raise WireError("children: a row is an array of five values")
    return Child(*row)


def _decode(data: bytes, kinds: Mapping[str, type[_Kind]]) -> tuple[type[_Kind], dict[str, Any]]:
    values = _unpack(data)
    kind = kinds.get(values.pop("type", None))
    if kind is None:
        raise WireError("unknown message type")
    if values.keys() != {field.name for field in fields(kind)}:
        raise WireError(f"{kind.TYPE}: missing or extra keys")
    return kind, values


def _unpack(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_DATAGRAM:
        raise WireError(f"{len(data)} bytes, at most {MAX_DATAGRAM}")
    try:
        value = msgpack.unpackb(data, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:  # msgpack's own exceptions are ValueErrors
        raise WireError("not one msgpack map") from error
    if type(value) is not dict or type(value.get("type")) is not str:
        raise WireError("not a map with a type")
    return value


def _unique(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    """A map that names a key twice means something else to each reader, so it means nothing here."""
    values = dict(pairs)
    if len(values) != len(pairs):
        raise WireError("a key stands twice in a map")
    return values
