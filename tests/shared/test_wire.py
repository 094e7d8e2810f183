"""The wire between broker and spawner: what is legal passes unchanged, everything else is a WireError."""

from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twinlock_shared import wire

UEP = "0f0e0d0c-0b0a-4908-8706-050403020100"
MEP = "11111111-2222-4333-8444-555555555555"
NAME = f"uep.{MEP}.{UEP}"

REQUESTS = [
    wire.Spawn(UEP, "alice", NAME, "endpoint"),
    wire.Signal(UEP, "TERM"),
    wire.Signal(UEP, "KILL"),
    wire.List(),
    wire.Noted(UEP),
]
REPLIES = [
    wire.Hello(1),
    wire.Spawned(UEP, 4711),
    wire.Refused(UEP, "policy", "the account root is not allowed"),
    wire.Exited(UEP, 4711, 256),
    wire.Children([], False),
    wire.Children([wire.Child(UEP, 1, "alice", NAME, None), wire.Child(UEP, 2, "bob", NAME, 9)], True),
]


@pytest.mark.parametrize("message", REQUESTS)
def test_request_survives_the_wire(message: wire.Request) -> None:
    assert wire.decode_request(wire.encode(message)) == message


@pytest.mark.parametrize("message", REPLIES)
def test_reply_survives_the_wire(message: wire.Reply) -> None:
    assert wire.decode_reply(wire.encode(message)) == message


def test_datagram_is_the_documented_map() -> None:
    data = wire.encode(wire.Spawn(UEP, "alice", NAME, "endpoint"))
    assert msgpack.unpackb(data) == {
        "type": "spawn",
        "id": UEP,
        "user": "alice",
        "name": NAME,
        "program": "endpoint",
    }


def spawn(**changes: Any) -> dict[str, Any]:
    return {"type": "spawn", "id": UEP, "user": "alice", "name": NAME, "program": "endpoint"} | changes


@pytest.mark.parametrize(
    "bad",
    [
        spawn(type="hello"),
        spawn(type="no-such"),
        spawn(type=None),
        spawn(type=["spawn"]),
        spawn(uid=0),
        spawn(id=UEP.upper()),
        spawn(id=UEP + "\n"),
        spawn(id=UEP.encode()),
        spawn(user=""),
        spawn(user="-alice"),
        spawn(user="a/../b"),
        spawn(user="root:0"),
        spawn(user="a\0b"),
        spawn(user="ä"),
        spawn(user="a" * 66),
        spawn(user=0),
        spawn(user=True),
        spawn(name="uep/../../etc"),
        spawn(name=NAME + "/x"),
        spawn(name=None),
        spawn(program="/bin/sh"),
        spawn(program=["/bin/sh"]),
        {"type": "spawn", "id": UEP},
        {"type": "signal", "id": UEP, "signal": "STOP"},
        {"type": "signal", "id": UEP, "signal": 15},
        {"type": "signal", "id": UEP, "pid": 1, "signal": "TERM"},
        {"type": "list", "all": True},
        {},
        [],
        None,
        7,
        {1: 2},
    ],
)
def test_bad_request_is_an_error(bad: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_request(msgpack.packb(bad))


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "hello", "version": "1"},
        {"type": "hello", "version": True},
        {"type": "hello", "version": -1},
        {"type": "refused", "id": UEP, "stage": "policy", "reason": "x" * (wire.MAX_TEXT + 1)},
        {"type": "children", "children": {}, "more": False},
        {"type": "children", "children": [[UEP, 1, "alice", NAME]], "more": False},
        {"type": "children", "children": [["x", 1, "alice", NAME, None]], "more": False},
        {"type": "children", "children": [[UEP, None, "alice", NAME, None]], "more": False},
        {"type": "children", "children": [7], "more": False},
        {"type": "children", "children": [], "more": 0},
        {"type": "spawn"},
    ],
)
def test_bad_reply_is_an_error(bad: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_reply(msgpack.packb(bad))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        b"\x81",
        wire.encode(wire.List()) + b"\x00",
        b"\x91" * 5000,
        b"\x82\xa4type\xa4list\xa4type\xa4list",
        msgpack.packb({"type": "list", "pad": "x" * wire.MAX_DATAGRAM}),
    ],
    ids=["empty", "reserved", "cut", "tail", "deep", "twice", "long"],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    with pytest.raises(wire.WireError):
        wire.decode_request(data)


@given(st.binary(max_size=300))
def test_any_bytes_give_a_message_or_a_wire_error(data: bytes) -> None:
    for decode in (wire.decode_request, wire.decode_reply):
        try:
            message = decode(data)
        except wire.WireError:
            continue
        assert decode(wire.encode(message)) == message


LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.text(max_size=60) | st.binary(max_size=40)


@given(st.dictionaries(st.sampled_from([*spawn(), "signal", "more", "children"]), LEAVES | st.lists(LEAVES)))
def test_any_map_gives_a_message_or_a_wire_error(values: dict[str, Any]) -> None:
    try:
        message = wire.decode_request(msgpack.packb(values))
    except wire.WireError:
        return
    assert msgpack.unpackb(wire.encode(message)) == values


@pytest.mark.parametrize("message", [wire.Signal(UEP, "HUP"), wire.Spawned("x", 1), wire.Spawned(UEP, 2**31)])
def test_a_sender_cannot_encode_what_a_receiver_refuses(message: Any) -> None:
    with pytest.raises(wire.WireError):
        wire.encode(message)


def test_the_longest_messages_fit() -> None:
    child = wire.Child(UEP, 2**31 - 1, "u" * 64 + "$", NAME, 2**31 - 1)
    assert len(wire.encode(wire.Children([child] * wire.MAX_PAGE, True))) <= wire.MAX_DATAGRAM
    refused = wire.Refused(UEP, "policy", "\N{GRINNING FACE}" * wire.MAX_TEXT)
    assert len(wire.encode(refused)) <= wire.MAX_DATAGRAM
