"""A message of each kind, and what holds of any bytes that come over the wire."""

from collections.abc import Mapping
from typing import Any, TypeVar

from twinlock_wire import wire

UEP = "0f0e0d0c-0b0a-4908-8706-050403020100"
NAME = f"uep.11111111-2222-4333-8444-555555555555.{UEP}"
ALICE = wire.Child(UEP, 1, "alice", NAME, None)
BOB = wire.Child(UEP, 2**31 - 1, "bob", NAME, 9)

SPAWN = wire.Spawn(UEP, "alice", NAME, "endpoint", "0badcafe")
REFUSED = wire.Refused(UEP, "policy", "the account root\nis not allowed: \N{EURO SIGN}")
REQUESTS: list[wire.Request] = [
    SPAWN,
    SPAWN._replace(command=""),
    wire.Signal(UEP, "TERM"),
    wire.Signal(UEP, "KILL"),
    wire.List(),
    wire.Noted(UEP),
]
REPLIES: list[wire.Reply] = [
    wire.Hello(1),
    wire.Spawned(UEP, 4711),
    REFUSED,
    wire.Exited(UEP, 4711, 256),
    wire.Children([]),
    wire.Children([ALICE, BOB]),
]

KINDS: dict[str, tuple[type, ...]] = {"ended": (int, type(None)), "children": (list,)} | dict.fromkeys(
    ("version", "pid", "status"), (int,)
)
KINDS |= dict.fromkeys(("id", "user", "name", "program", "command", "signal", "stage", "reason"), (str,))
_Message = TypeVar("_Message", wire.Request, wire.Reply)


def as_map(message: wire.Request | wire.Reply) -> dict[str, Any]:
    """The map that a message's datagram is the msgpack of; a command that isn't known isn't in it."""
    values = {"type": type(message).__name__.lower()} | message._asdict()
    return {name: value for name, value in values.items() if (name, value) != ("command", "")}


def check_datagram(data: bytes) -> bool:
    """Whether either side takes the bytes for a message. Fails unless it's one in its only form, or a `WireError`."""
    return any([_check(data, wire.REQUESTS), _check(data, wire.REPLIES)])


def _check(data: bytes, kinds: Mapping[str, type[_Message]]) -> bool:
    try:
        message = wire.decode(data, kinds)
    except wire.WireError:
        return False
    assert type(message) in kinds.values(), message
    assert len(data) <= wire.MAX_DATAGRAM
    assert wire.encode(message) == data, message
    for row in message.children if isinstance(message, wire.Children) else [message]:
        for name, value in row._asdict().items():
            assert type(value) in KINDS[name], row  # a bool is no int here
    return True
