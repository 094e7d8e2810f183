"""The wire between broker and spawner: what is legal passes unchanged, everything else is a WireError."""

from collections.abc import Iterator
from typing import Any

import msgpack
import pytest
from twinlock_wire import wire
from wire_rig import ALICE, NAME, REFUSED, REPLIES, REQUESTS, SPAWN, UEP, as_map


def refused(data: bytes) -> None:
    """Neither side takes the bytes."""
    with pytest.raises(wire.WireError):
        wire.decode(data, wire.REQUESTS)
    with pytest.raises(wire.WireError):
        wire.decode(data, wire.REPLIES)


@pytest.mark.parametrize("message", REQUESTS)
def test_request_survives_the_wire_in_one_direction(message: wire.Request) -> None:
    data = wire.encode(message)
    assert wire.decode(data, wire.REQUESTS) == message
    with pytest.raises(wire.WireError):
        wire.decode(data, wire.REPLIES)


@pytest.mark.parametrize("message", REPLIES)
def test_reply_survives_the_wire_in_one_direction(message: wire.Reply) -> None:
    data = wire.encode(message)
    assert wire.decode(data, wire.REPLIES) == message
    with pytest.raises(wire.WireError):
        wire.decode(data, wire.REQUESTS)


def test_messages_of_equal_fields_keep_their_kind() -> None:
    """Named tuples of equal values are equal: the type has to be looked at as well."""
    assert type(wire.decode(wire.encode(wire.Noted(UEP)), wire.REQUESTS)) is wire.Noted
    page = wire.decode(wire.encode(wire.Children([ALICE])), wire.REPLIES)
    assert isinstance(page, wire.Children)
    assert type(page.children[0]) is wire.Child


def test_datagram_is_the_documented_map() -> None:
    assert msgpack.unpackb(wire.encode(SPAWN)) == {
        "type": "spawn",
        "id": UEP,
        "user": "alice",
        "name": NAME,
        "program": "endpoint",
        "command": "0badcafe",
    }


def test_page_is_the_documented_map() -> None:
    assert msgpack.unpackb(wire.encode(wire.Children([ALICE, ALICE._replace(ended=256)]))) == {
        "type": "children",
        "children": [[UEP, 1, "alice", NAME, None], [UEP, 1, "alice", NAME, 256]],
    }


@pytest.mark.parametrize(
    "user", ["a", "_apt", "Alice", "0815", "alice@EXAMPLE.ORG", "a.b-c", "DOM+a", "host$", "u" * 64]
)
def test_names_that_sites_give_to_accounts(user: str) -> None:
    message = SPAWN._replace(user=user)
    assert wire.decode(wire.encode(message), wire.REQUESTS) == message


@pytest.mark.parametrize("number", [0, 127, 128, 255, 256, 65535, 65536, 2**31 - 1])
def test_number_in_each_of_its_lengths(number: int) -> None:
    message = wire.Exited(UEP, number, number)
    assert wire.decode(wire.encode(message), wire.REPLIES) == message


@pytest.mark.parametrize("length", [0, 31, 32, 255, 256, wire.MAX_TEXT])
@pytest.mark.parametrize("character", ["\0", "\n", "x", "\N{GRINNING FACE}"])
def test_reason_may_be_any_text(character: str, length: int) -> None:
    message = REFUSED._replace(reason=character * length)
    assert wire.decode(wire.encode(message), wire.REPLIES) == message


@pytest.mark.parametrize("rows", [0, 1, 15, 16, wire.MAX_PAGE - 1, wire.MAX_PAGE])
def test_page_of_any_length_up_to_the_longest(rows: int) -> None:
    message = wire.Children([ALICE._replace(pid=number) for number in range(rows)])
    assert wire.decode(wire.encode(message), wire.REPLIES) == message


def test_the_longest_messages_fit() -> None:
    child = wire.Child(UEP, 2**31 - 1, "u" * 64 + "$", NAME, 2**31 - 1)
    assert len(wire.encode(wire.Children([child] * wire.MAX_PAGE))) <= wire.MAX_DATAGRAM
    reason = "\N{GRINNING FACE}" * wire.MAX_TEXT
    assert len(wire.encode(wire.Refused(UEP, "s" * 32, reason))) <= wire.MAX_DATAGRAM


BAD_IDS = [
    "",
    "x",
    UEP.upper(),
    UEP.replace("0f0e", "0F0E"),
    UEP + "\n",
    "\n" + UEP,
    UEP[:-1],
    UEP + "0",
    UEP.replace("-", ""),
    f"{{{UEP}}}",
    "٣" + UEP[1:],
]
BAD_USERS = [
    "",
    "-alice",
    ".",
    "..",
    "+a",
    "a/../b",
    "root:0",
    "a b",
    "a\0b",
    "a\n",
    "ä",
    "alicé",
    "a" * 65,
    "a$$",
    "a$b",
    "%u",
]
BAD_NAMES = [
    "",
    UEP,
    NAME + "/x",
    NAME + "\n",
    "uep/../../etc",
    NAME.upper(),
    NAME.replace(".", "-"),
    f"uep.{UEP}",
    f"{NAME}.{UEP}",
]
BAD_WORDS = ["", "/bin/sh", "../sh", "a b", "Endpoint", "1", "-a", "_a", "a.b", "a\n", "a\0", "ä", "a" * 33]
BAD_COMMANDS = ["0badcaf", "0badcafe0", "0BADCAFE", "0badcafe\n", "0badcafg", UEP, "٣badcafe"]
BAD_SIGNALS = ["", "STOP", "HUP", "term", "SIGTERM", "TERM\n", "TERMKILL", "15"]
BAD_NUMBERS = [-1, 2**31, 2**32, 2**64 - 1, True, False, 1.0, "1", b"1"]
NO_TEXTS = [
    None,
    0,
    True,
    1.5,
    [],
    ["endpoint"],
    {},
    b"endpoint",
    UEP.encode(),
    msgpack.ExtType(1, b"x"),
    msgpack.Timestamp(1),
]

ILLEGAL: dict[Any, dict[str, list[Any]]] = {
    SPAWN: {"id": BAD_IDS, "user": BAD_USERS, "name": BAD_NAMES, "program": BAD_WORDS, "command": BAD_COMMANDS},
    wire.Signal(UEP, "TERM"): {"id": BAD_IDS, "signal": BAD_SIGNALS},
    wire.Noted(UEP): {"id": BAD_IDS},
    wire.Hello(1): {"version": BAD_NUMBERS},
    wire.Spawned(UEP, 1): {"id": BAD_IDS, "pid": BAD_NUMBERS},
    REFUSED: {"id": BAD_IDS, "stage": BAD_WORDS, "reason": ["x" * (wire.MAX_TEXT + 1)]},
    wire.Exited(UEP, 1, 0): {"id": BAD_IDS, "pid": BAD_NUMBERS, "status": BAD_NUMBERS},
    ALICE: {"id": BAD_IDS, "pid": BAD_NUMBERS, "user": BAD_USERS, "name": BAD_NAMES, "ended": BAD_NUMBERS},
}


def illegal() -> Iterator[Any]:
    """Messages that are legal but for one field; for a row, a page with such a row."""
    for message, fields in ILLEGAL.items():
        for field, values in fields.items():
            wrong = [None, []] if field in ("version", "pid", "status") else [[], {}] if field == "ended" else NO_TEXTS
            for value in values + wrong:
                bad = message._replace(**{field: value})
                case = f"{type(message).__name__}-{field}-{value!r:.20}"
                yield pytest.param(wire.Children([ALICE, bad]) if isinstance(bad, wire.Child) else bad, id=case)


@pytest.mark.parametrize("message", [*illegal()])
def test_one_bad_field_is_refused_by_sender_and_receiver(message: wire.Request | wire.Reply) -> None:
    with pytest.raises(wire.WireError):
        wire.encode(message)
    refused(msgpack.packb(as_map(message)))


@pytest.mark.parametrize("message", [*REQUESTS, *REPLIES])
def test_a_key_too_few_or_too_many(message: wire.Request | wire.Reply) -> None:
    values = as_map(message)
    refused(msgpack.packb(values | {"uid": 0}))
    refused(msgpack.packb(values | {"_cls": 0}))
    for key in values.keys() - {"command"}:  # without that it is a message of version 1
        refused(msgpack.packb({name: value for name, value in values.items() if name != key}))


def test_a_start_without_a_command_is_what_version_1_has() -> None:
    """So a broker may be newer than its spawner."""
    former = {"type": "spawn", "id": UEP, "user": "alice", "name": NAME, "program": "endpoint"}
    assert wire.encode(SPAWN._replace(command="")) == msgpack.packb(former)
    assert wire.decode(msgpack.packb(former), wire.REQUESTS) == SPAWN._replace(command="")
    refused(msgpack.packb(former | {"command": ""}))  # one message has one form


@pytest.mark.parametrize(
    "kind", ["", "no-such", "Spawn", "spawn ", b"spawn", None, 0, True, ["spawn"], {"spawn": 1}, "child"]
)
def test_unknown_type(kind: Any) -> None:
    refused(msgpack.packb(as_map(SPAWN) | {"type": kind}))


@pytest.mark.parametrize(
    "value", [{}, [], None, 7, -1, True, 1.5, "spawn", b"spawn", ["type", "list"], {b"type": "list"}]
)
def test_value_that_is_no_map_with_a_type(value: Any) -> None:
    refused(msgpack.packb(value))


def test_key_that_is_no_text() -> None:
    refused(msgpack.packb({1: 2}))
    refused(msgpack.packb({"type": "noted", b"id": UEP}))
    refused(msgpack.packb({"type": "noted", "id": UEP, 7: 7}))


@pytest.mark.parametrize(
    "rows",
    [
        None,
        7,
        "abcde",
        ["abcde"],
        [b"abcde"],
        {},
        {UEP: 1},
        [7],
        [None],
        [[]],
        [[*ALICE][:-1]],
        [[*ALICE, None]],
        [ALICE._asdict()],
        [ALICE, []],
        [[ALICE]],
    ],
)
def test_page_whose_rows_are_none(rows: Any) -> None:
    refused(msgpack.packb({"type": "children", "children": rows}))


# By the msgpack specification: Hello, a page without rows, and other forms of Hello's map.
HELLO = b"\x82\xa4type\xa5hello\xa7version\x01"
EMPTY = b"\x82\xa4type\xa8children\xa8children\x90"
SAME_MEANING = {
    "other-order": b"\x82\xa7version\x01\xa4type\xa5hello",
    "value-twice": b"\x83\xa4type\xa5hello\xa7version\x01\xa7version\x01",
    "value-twice-last-counts": b"\x83\xa4type\xa5hello\xa7version\x02\xa7version\x01",
    "type-twice-last-counts": b"\x83\xa4type\xa4list\xa7version\x01\xa4type\xa5hello",
    "map16": b"\xde\x00\x02" + HELLO[1:],
    "map32": b"\xdf\x00\x00\x00\x02" + HELLO[1:],
    "key-str8": HELLO.replace(b"\xa4type", b"\xd9\x04type"),
    "key-str16": HELLO.replace(b"\xa7version", b"\xda\x00\x07version"),
    "text-str8": HELLO.replace(b"\xa5hello", b"\xd9\x05hello"),
    "text-str16": HELLO.replace(b"\xa5hello", b"\xda\x00\x05hello"),
    "text-str32": HELLO.replace(b"\xa5hello", b"\xdb\x00\x00\x00\x05hello"),
    "uint8": HELLO[:-1] + b"\xcc\x01",
    "uint16": HELLO[:-1] + b"\xcd\x00\x01",
    "uint32": HELLO[:-1] + b"\xce\x00\x00\x00\x01",
    "uint64": HELLO[:-1] + b"\xcf" + bytes(7) + b"\x01",
    "int8": HELLO[:-1] + b"\xd0\x01",
    "int16": HELLO[:-1] + b"\xd1\x00\x01",
    "int32": HELLO[:-1] + b"\xd2\x00\x00\x00\x01",
    "int64": HELLO[:-1] + b"\xd3" + bytes(7) + b"\x01",
    "float32": HELLO[:-1] + b"\xca\x3f\x80\x00\x00",
    "float64": HELLO[:-1] + b"\xcb\x3f\xf0" + bytes(6),
    "true": HELLO[:-1] + b"\xc3",
}


def test_hello_and_empty_page_byte_by_byte() -> None:
    assert wire.encode(wire.Hello(1)) == HELLO
    assert wire.encode(wire.Children([])) == EMPTY


@pytest.mark.parametrize("data", SAME_MEANING.values(), ids=SAME_MEANING)
def test_another_form_of_the_same_value(data: bytes) -> None:
    assert msgpack.unpackb(data) == {"type": "hello", "version": 1}
    refused(data)


@pytest.mark.parametrize("rows", [b"\xdc\x00\x00", b"\xdd\x00\x00\x00\x00", b"\x80", b"\xa0", b"\xc4\x00"])
def test_another_form_of_an_empty_page(rows: bytes) -> None:
    refused(EMPTY[:-1] + rows)


def test_another_form_of_a_row() -> None:
    data = wire.encode(wire.Children([ALICE]))
    assert data.count(b"\x95") == 1
    for form in (b"\xdc\x00\x05", b"\xdd\x00\x00\x00\x05"):
        other = data.replace(b"\x95", form)
        assert msgpack.unpackb(other) == msgpack.unpackb(data)
        refused(other)


def test_text_in_another_form_of_utf_8() -> None:
    data = wire.encode(REFUSED._replace(reason="A"))
    for form in (b"\xa1\xff", b"\xa2\xc1\x81", b"\xa3\xed\xa0\x80"):  # no UTF-8, an overlong A, half a surrogate pair
        refused(data.replace(b"\xa1A", form))


@pytest.mark.parametrize("message", [*REQUESTS, *REPLIES])
def test_more_or_less_than_one_message(message: wire.Request | wire.Reply) -> None:
    data = wire.encode(message)
    for tail in (b"\0", b"\xc0", b"\xc1", data):
        refused(data + tail)
    refused(b"\0" + data)
    for length in range(len(data)):
        refused(data[:length])


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x81", b"\x91" * 5000, b"\x81\xa1x" * 3000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff"],
    ids=["empty", "reserved", "cut", "deep-arrays", "deep-maps", "claims-an-array", "claims-a-map"],
)
def test_bytes_that_are_no_message(data: bytes) -> None:
    refused(data)


def test_one_byte_over_the_cap() -> None:
    """16 KiB and one. A page in its only form; its users' names make it as long as that."""
    over = 16 * 1024 + 1
    rows = [ALICE._replace(user="u")] * 120
    missing = over - len(msgpack.packb(as_map(wire.Children(rows))))
    rows = [row._replace(user="u" * (1 + min(30, max(0, missing - 30 * at)))) for at, row in enumerate(rows)]
    data = msgpack.packb(as_map(wire.Children(rows)))
    assert len(data) == over
    refused(data)


def test_half_a_surrogate_pair_cannot_be_sent() -> None:
    """What Python makes of a text that isn't UTF-8 (`os.fsdecode`), and no encoder takes."""
    with pytest.raises(wire.WireError):
        wire.encode(REFUSED._replace(reason="\udcff"))


def test_longer_than_a_datagram_by_far() -> None:
    refused(msgpack.packb({"type": "list", "pad": "x" * wire.MAX_DATAGRAM}))
    refused(wire.encode(wire.List()) + bytes(1 << 20))


@pytest.mark.parametrize(
    "value",
    [
        "evil",
        ["evil"],
        {"evil": 1},
        {"type": "evil"},
        as_map(SPAWN) | {"evil": 1},
        as_map(SPAWN) | {"user": "evil/"},
        as_map(SPAWN) | {"id": b"evil"},
        as_map(wire.Children([ALICE._replace(name="evil")])),
    ],
)
def test_error_holds_nothing_of_the_peers(value: Any) -> None:
    for data in (msgpack.packb(value), msgpack.packb(value) + b"evil", msgpack.packb(value)[:-1]):
        with pytest.raises(wire.WireError) as request:
            wire.decode(data, wire.REQUESTS)
        with pytest.raises(wire.WireError) as reply:
            wire.decode(data, wire.REPLIES)
        assert "evil" not in f"{request.value} {reply.value}"
