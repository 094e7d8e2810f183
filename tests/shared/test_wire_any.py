"""Whatever comes over the wire: one message in its only form, or a WireError; never more memory than a bound."""

import tracemalloc
from struct import pack
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twinlock_wire import wire
from wire_rig import NAME, REPLIES, REQUESTS, UEP, as_map, check_datagram

PATIENT = settings(suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
MEMORY = 256 * wire.MAX_DATAGRAM  # bytes; each byte of a datagram makes one object at most, and those are small

IDS = st.uuids().map(str)
USERS = st.from_regex(r"[a-z_][a-z0-9_-]{0,30}\$?", fullmatch=True)  # as useradd(8) makes them
NAMES = st.builds("uep.{}.{}".format, IDS, IDS)
WORDS = st.sampled_from(["endpoint", "policy", "no-new-privs", "a", "z_9", "x" * 32])
NUMBERS = st.integers(0, 2**31 - 1)
CHILDREN = st.builds(wire.Child, IDS, NUMBERS, USERS, NAMES, st.none() | NUMBERS)
LEGAL_REQUESTS = st.one_of(
    st.builds(wire.Spawn, IDS, USERS, NAMES, WORDS, st.from_regex("([0-9a-f]{8})?", fullmatch=True)),
    st.builds(wire.Signal, IDS, st.sampled_from(["TERM", "KILL"])),
    st.builds(wire.List),
    st.builds(wire.Noted, IDS),
)
LEGAL_REPLIES = st.one_of(
    st.builds(wire.Hello, NUMBERS),
    st.builds(wire.Spawned, IDS, NUMBERS),
    st.builds(wire.Refused, IDS, WORDS, st.text(max_size=wire.MAX_TEXT)),
    st.builds(wire.Exited, IDS, NUMBERS, NUMBERS),
    st.builds(wire.Children, st.lists(CHILDREN, max_size=wire.MAX_PAGE)),
)
DATAGRAMS = (LEGAL_REQUESTS | LEGAL_REPLIES).map(wire.encode)
LEAVES = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.binary(), inner))
KEYS = st.sampled_from(sorted({key for message in (*REQUESTS, *REPLIES) for key in as_map(message)}))


@PATIENT
@given(LEGAL_REQUESTS)
def test_any_legal_request_survives(message: wire.Request) -> None:
    assert wire.decode(wire.encode(message), wire.REQUESTS) == message


@PATIENT
@given(LEGAL_REPLIES)
def test_any_legal_reply_survives(message: wire.Reply) -> None:
    assert wire.decode(wire.encode(message), wire.REPLIES) == message


@PATIENT
@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    check_datagram(data)


@PATIENT
@given(VALUES)
def test_any_value(value: Any) -> None:
    check_datagram(msgpack.packb(value))


@PATIENT
@given(
    st.sampled_from([*REQUESTS, *REPLIES]),
    st.dictionaries(KEYS, st.sampled_from([UEP, NAME, "alice", "TERM", "list", 1]) | VALUES, max_size=3),
)
def test_any_map_that_is_nearly_a_message(message: wire.Request | wire.Reply, changes: dict[str, Any]) -> None:
    check_datagram(msgpack.packb(as_map(message) | changes))


INTEGERS = {
    0xCC: (">BB", 2**8),
    0xCD: (">BH", 2**16),
    0xCE: (">BI", 2**32),
    0xCF: (">BQ", 2**64),
    0xD0: (">Bb", 2**7),
    0xD1: (">Bh", 2**15),
    0xD2: (">Bi", 2**31),
    0xD3: (">Bq", 2**63),
}


@st.composite
def written(draw: st.DrawFn, value: Any) -> bytes:
    """The value in any of the forms that msgpack's specification has for it, a map's keys in any order."""
    if isinstance(value, dict):
        pairs = draw(st.permutations([*value.items()]))
        head = draw(st.sampled_from([bytes([0x80 + len(value)]), pack(">BH", 0xDE, len(value))]))
        return head + b"".join(draw(written(part)) for pair in pairs for part in pair)
    if isinstance(value, (list, tuple)):
        short = [bytes([0x90 + len(value)])] if len(value) < 16 else []
        head = draw(st.sampled_from([*short, pack(">BH", 0xDC, len(value)), pack(">BI", 0xDD, len(value))]))
        return head + b"".join(draw(written(part)) for part in value)
    if isinstance(value, str):
        text = value.encode()
        short = [bytes([0xA0 + len(text)])] if len(text) < 32 else []
        short += [pack("BB", 0xD9, len(text))] if len(text) < 256 else []
        return draw(st.sampled_from([*short, pack(">BH", 0xDA, len(text)), pack(">BI", 0xDB, len(text))])) + text
    if isinstance(value, int):
        forms = [pack("B", value)] if value < 2**7 else []
        forms += [pack(form, head, value) for head, (form, end) in INTEGERS.items() if value < end]
        return draw(st.sampled_from(forms))
    return b"\xc0"


@PATIENT
@given((LEGAL_REQUESTS | LEGAL_REPLIES).flatmap(lambda message: st.tuples(st.just(message), written(as_map(message)))))
def test_only_one_of_all_forms_of_a_message_counts(case: tuple[wire.Request | wire.Reply, bytes]) -> None:
    message, data = case
    assert msgpack.unpackb(data) == msgpack.unpackb(wire.encode(message))
    assert check_datagram(data) == (data == wire.encode(message))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A real datagram in which bits were flipped, bytes were cut, repeated, or came in from another one."""
    data = draw(DATAGRAMS)
    for accident in draw(st.lists(st.sampled_from(["flip", "cut", "repeat", "splice"]), min_size=1, max_size=4)):
        start, end = sorted(draw(st.tuples(*[st.integers(0, len(data))] * 2)))
        before, part, after = data[:start], data[start:end], data[end:]
        if accident == "flip":
            mask = draw(st.integers(1, 255))
            part = bytes(byte ^ mask for byte in part[:1]) + part[1:]
        elif accident == "cut":
            part = b""
        elif accident == "repeat":
            part *= draw(st.integers(2, 5))
        else:
            part = draw(DATAGRAMS)[start:end]
        data = before + part + after
    return data


@settings(PATIENT, max_examples=500)
@given(damaged())
def test_any_damaged_datagram(data: bytes) -> None:
    check_datagram(data)


def peak(data: bytes) -> int:
    """The most memory in bytes that was in use for the decoding."""
    tracemalloc.start()
    try:
        with pytest.raises(wire.WireError):
            wire.decode(data, wire.REQUESTS)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("decoder", ["fallback"], indirect=True)  # root's; the one in C believes what an array claims
@pytest.mark.parametrize(
    "head", [b"", b"\xdd\x00\x00\x20\x00", b"\x81\xa4type\xdd\x00\x00\x20\x00", b"\xdb\xff\xff\xff\xff"]
)
@settings(PATIENT, max_examples=20)
@given(
    st.sampled_from([b"\x90", b"\x80", b"\xdc\x1f\xff", b"\x81\xa0", b"\xd4\x00\x00", b"\xc4\x01x"])
    | st.binary(min_size=1, max_size=6)
)
def test_memory_is_bounded(head: bytes, unit: bytes) -> None:
    data = head + unit * (wire.MAX_DATAGRAM // len(unit))
    assert peak(data) < MEMORY


@pytest.mark.parametrize("decoder", ["fallback"], indirect=True)
def test_memory_does_not_grow_with_what_is_too_long() -> None:
    rows = 1 << 20
    assert peak(b"\xdd" + rows.to_bytes(4, "big") + b"\x90" * rows) < MEMORY
