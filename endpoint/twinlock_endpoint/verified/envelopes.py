"""Signed tasks as they are delivered, as the journal keeps them, and as workers get them.

A delivery is a task of the SDK whose function only says that this endpoint doesn't verify; its arguments are the four
texts of signed work, packed by the SDK's `JSONData`. Nothing but JSON is read of it.
"""

import json
import math
from typing import NamedTuple

import msgpack
from twinlock_signed import verifier
from twinlock_signed.errors import Refused
from twinlock_signed.result import JSON_DATA
from twinlock_signed.task import Task as SignedTask
from twinlock_signed.verifier import Envelope

from twinlock_endpoint.worker.messages import pack, unpack

_KEPT = b"twinlock-signed 1\n"
"""How the body of a task begins that the journal keeps; one that was delivered begins with 0x01."""

_BUFFERS = 3
"""Function, positional and named arguments."""


class Kept(NamedTuple):
    """What the journal has of a signed task."""

    accepted: float
    """When it was accepted, in seconds since 1970."""
    envelope: Envelope


def read(body: bytes) -> Envelope:
    """Return the envelope in the body of a delivery. Raise `Refused` if there is none."""
    try:
        arguments = _buffers(unpack(body, "task")["task_buffer"])[1]
        texts = json.loads(arguments.removeprefix(JSON_DATA)) if arguments.startswith(JSON_DATA) else None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        texts = None
    return verifier.envelope(texts)


def keep(kept: Kept) -> bytes:
    """Return the body of a task for the journal."""
    return _KEPT + bytes(msgpack.packb([kept.accepted, *kept.envelope]))


def kept(body: bytes) -> Kept:
    """Return what `keep` was given. Raise `Refused` if it has not made this body: a plain endpoint has."""
    try:
        accepted, *texts = msgpack.unpackb(body.removeprefix(_KEPT)) if body.startswith(_KEPT) else [0.0]
        return Kept(_time(accepted), verifier.envelope(texts))
    except (ValueError, TypeError, msgpack.UnpackException):
        raise Refused(
            "The task is not signed: an endpoint of this name that doesn't verify has accepted it; submit it again"
        ) from None


def for_worker(task_id: str, task: SignedTask) -> bytes:
    """Return the message that workers get, with nothing in it but what was signed and the task's uuid."""
    buffers = "".join(f"{len(buffer)}\n{buffer}" for buffer in (task.function, task.args, task.kwargs))
    return pack("task", {"task_id": task_id, "container_id": None, "task_buffer": buffers})


def _time(accepted: object) -> float:
    """Return a time. Raise `ValueError` if it isn't one: of NaN it is never true that something expired before."""
    if type(accepted) is not float or not math.isfinite(accepted):
        raise ValueError("not a time")
    return accepted


def _buffers(text: str) -> list[str]:
    """Return the buffers in a text that the SDK's `pack_buffers` made. Raise `ValueError` if it isn't one of three."""
    found = []
    for _ in range(_BUFFERS):
        length, _, rest = text.partition("\n")
        if not length.isdecimal() or int(length) > len(rest):
            raise ValueError("not packed buffers")
        found.append(rest[: int(length)])
        text = rest[int(length) :]
    if text:
        raise ValueError("more than three buffers")
    return found
