"""What of signed work reads bytes of others: by the checks in tests/helpers/signed_decoders.py, from their corpora."""

import json
from collections.abc import Iterator
from functools import partial

from mutations import JSON, LINES, Format
from target import Group, Target

_KEPT = b"twinlock-signed 1\n"


def _read_envelope(data: bytes) -> object:
    """Return the buffers of a task; in place of the arguments what they say."""
    text = json.loads(data[1:])["data"]["task_buffer"]
    found = []
    while text:
        length, _, rest = text.partition("\n")
        found.append(rest[: int(length)])
        text = rest[int(length) :]
    return [found[0], json.loads(found[1][3:]), *found[2:]]


def _write_envelope(value: object) -> bytes:
    function, texts, *others = _list(value)
    buffers = [str(buffer) for buffer in (function, f"11\n{json.dumps(texts)}", *others)]
    packed = "".join(f"{len(buffer)}\n{buffer}" for buffer in buffers)
    return b"\x01" + json.dumps({"message_type": "task", "data": {"task_buffer": packed}}).encode()


def _read_kept(data: bytes) -> object:
    import msgpack

    return msgpack.unpackb(data.removeprefix(_KEPT))


def _write_kept(value: object) -> bytes:
    import msgpack

    return _KEPT + bytes(msgpack.packb(value))


def _read_result(data: bytes) -> object:
    statement, *others = json.loads(data[3:])
    return [json.loads(statement), *others]


def _write_result(value: object) -> bytes:
    statement, *others = _list(value)
    return b"11\n" + json.dumps([json.dumps(statement), *others]).encode()


def _list(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError
    return value


_FORMATS = {
    "statement": JSON,
    "delegation": JSON,
    "task": JSON,
    "envelope": Format(_read_envelope, _write_envelope),
    "kept": Format(_read_kept, _write_kept),
    "result": Format(_read_result, _write_result),
    "signers": LINES,
    "revoked_keys": LINES,
    "revoked_ids": LINES,
}


def _target(name: str) -> Target:
    from signed_decoders import CHECKS, corpus

    examples = corpus(name)
    form = _FORMATS[name]
    good = [form.read(data) for path, data in examples.items() if path.startswith("good-") and data[:7] != b"SSHKRL\n"]
    return Target(CHECKS[name], list(examples.values()), form, sorted({*_leaves(good)}, key=repr))


def _leaves(value: object) -> Iterator[object]:
    """Yield all that isn't a list or a map."""
    if isinstance(value, dict):
        yield from value
        yield from _leaves(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    else:
        yield value


SIGNED = Group(("msgpack", "twinlock_endpoint", "twinlock_signed"), {name: partial(_target, name) for name in _FORMATS})
