"""Mutations of what bytes say, beside libFuzzer's own of the bytes: most of those no longer say anything."""

import json
import math
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

Bytewise = Callable[[bytes, int], bytes]
"""Returns other bytes, as many as the number says at most: libFuzzer's mutation."""

Mutate = Callable[[bytes, int, int], bytes]
"""Returns other bytes, as many as the first number says at most, by the seed that is the second one."""

_NUMBERS: list[object] = [-1, 0, 1, 2**31, 2**32, 2**63, 1.0, math.inf]
_OTHERS: list[object] = [None, True, "", "\0", "../x", "\N{EURO SIGN}", b"x", [], {}, [[]]]

_UNUSABLE = (ValueError, TypeError, OverflowError, LookupError, RecursionError)
"""What the parts of a format raise where the bytes say nothing, or the changed value can't be said."""


class Format(NamedTuple):
    """How bytes say a value of lists and maps."""

    read: Callable[[bytes], object]
    write: Callable[[object], bytes]
    reshape: Callable[[bytes, random.Random], bytes] | None = None
    """Returns other bytes that should say the same."""


def mutator(bytewise: Bytewise, form: Format, words: Sequence[object]) -> Mutate:
    """Return mutations of the value, of a value's form, and of the bytes."""
    known = [*_NUMBERS, *_OTHERS, *words]

    def mutate(data: bytes, size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        kind = chance.random()
        try:
            if kind < 0.4:
                return form.write(_changed(form.read(data), chance, known))[:size]
            if kind < 0.5 and form.reshape is not None:
                return form.reshape(data, chance)[:size]
        except _UNUSABLE:
            pass
        return bytewise(data, size)

    return mutate


def _changed(value: object, chance: random.Random, words: Sequence[object]) -> object:
    """Return the value, in which one thing was replaced, left out or doubled."""
    if isinstance(value, dict):
        pairs = _changed(sorted(([*pair] for pair in value.items()), key=lambda _: chance.random()), chance, words)
        return dict(pairs) if isinstance(pairs, list) else pairs
    if not isinstance(value, list) or not value or chance.random() < 0.1:
        return chance.choice(words)
    at = chance.randrange(len(value))
    instead = [_changed(value[at], chance, words)] if chance.random() < 0.8 else [value[at]] * chance.choice([0, 2])
    return value[:at] + instead + value[at + 1 :]


def as_msgpack() -> Format:
    """Return the format of what root decodes. Only now the decoder is loaded."""
    import msgpack

    return Format(msgpack.unpackb, lambda value: bytes(msgpack.packb(value)), _lengthened)


def _lengthened(data: bytes, chance: random.Random) -> bytes:
    """Return the head of one map, array or text in a longer form. `IndexError` where nothing looks like a short one."""
    at = chance.choice([at for at, byte in enumerate(data) if 0x80 <= byte < 0xC0])
    count = data[at] & (0x0F if data[at] < 0xA0 else 0x1F)
    head = b"\xde\0" if data[at] < 0x90 else b"\xdc\0" if data[at] < 0xA0 else b"\xd9"
    return data[:at] + head + bytes([count]) + data[at + 1 :]


def _write_json(value: object) -> bytes:
    return json.dumps(value).encode()


def _key_twice(data: bytes, chance: random.Random) -> bytes:
    """Return an object with one of its fields once more at its beginning."""
    fields = json.loads(data)
    name = chance.choice(list(fields))
    return b"{%s:%s,%s" % (_write_json(name), _write_json(fields[name]), data.lstrip()[1:])


JSON = Format(json.loads, _write_json, _key_twice)

LINES = Format(
    lambda data: [line.split(" ") for line in data.decode("latin-1").split("\n")],
    lambda value: "\n".join(" ".join(map(str, line)) for line in _lists(value)).encode("latin-1"),
)
"""Lines of words."""


def _lists(value: object) -> list[list[object]]:
    """Return the value, if it is a list of lists. Raise `TypeError`."""
    if not isinstance(value, list) or not all(isinstance(each, list) for each in value):
        raise TypeError
    return value
