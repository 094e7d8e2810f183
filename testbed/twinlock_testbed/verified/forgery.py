"""What somebody makes up who has read signed work, and hasn't the user's keys: envelopes, and messages around them."""

import json
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from globus_compute_common.messagepack import pack, unpack
from globus_compute_common.messagepack.message_types import Result, Task
from globus_compute_sdk.serialize import ComputeSerializer, JSONData, PureSourceTextInspect
from nacl.signing import SigningKey
from twinlock_signed import delegation, dsse, task
from twinlock_signed.ssh import sign
from twinlock_signed.statement import digest


def take_over(path: str) -> None:
    """Leave a trace where this runs."""
    from pathlib import Path

    Path(path).touch()


class Envelope(NamedTuple):
    """The four texts of signed work."""

    delegation: str
    delegation_signature: str
    task: str
    task_signature: str


class Trap:
    """A value that leaves a trace where it is unpickled."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (self._path,)


def read(body: bytes) -> Envelope:
    """Return the envelope in a message that was intercepted."""
    _, arguments, _ = ComputeSerializer.unpack_buffers(unpack(body).task_buffer)
    return Envelope(*JSONData().deserialize(arguments))


def message(task_id: str, envelope: Envelope) -> bytes:
    """Return the message of a task with this envelope."""
    return _message(task_id, [_source(take_over), JSONData().serialize(list(envelope)), JSONData().serialize({})])


def unsigned(task_id: str, path: str) -> bytes:
    """Return the message of a task as the SDK sends it."""
    serializer = ComputeSerializer()
    return _message(task_id, [_source(take_over), serializer.serialize((path,)), serializer.serialize({})])


def with_own_task(known: Envelope, path: str) -> Envelope:
    """Return the user's delegation with a task of one's own, signed by a key of one's own."""
    session = SigningKey.generate()
    statement = _task(known.delegation, path)
    return Envelope(known.delegation, known.delegation_signature, statement, task.sign(statement.encode(), session))


def with_other_options(known: Envelope, path: str) -> Envelope:
    """Return the user's work with other options, which the template would use."""
    said = json.loads(known.delegation)
    said["user_endpoint_config"] = {"account_id": f"$(touch {path})"}
    return known._replace(delegation=json.dumps(said))


def with_own_delegation(known: Envelope, path: str, key: Path) -> Envelope:
    """Return a delegation for the user's account that an SSH key of one's own has signed, with a task of it."""
    session = SigningKey.generate()
    said = replace(
        delegation.read(known.delegation.encode()), id=uuid.uuid4().hex, session_key=dsse.public_half(session)
    )
    text = delegation.write(said)
    statement = _task(text.decode(), path)
    return Envelope(text.decode(), sign.sign(text, key), statement, task.sign(statement.encode(), session))


def result(task_id: str, path: str) -> bytes:
    """Return the message of a result that runs code where it is unpickled."""
    packed: bytes = pack(Result(task_id=task_id, data=ComputeSerializer().serialize(Trap(path))))
    return packed


def _task(of: str, path: str) -> str:
    """Return a task's statement that would run `take_over`."""
    now, serializer = int(time.time()), ComputeSerializer()
    whole = task.Task(
        delegation=digest(of.encode()),
        number=1000,
        issued=now,
        expires=now + 3600,
        resource_specification={},
        result_serializers=[],
        function=_source(take_over),
        args=serializer.serialize((path,)),
        kwargs=serializer.serialize({}),
    )
    return task.write(whole).decode()


def _source(function: Callable[..., Any]) -> str:
    packed: str = ComputeSerializer(strategy_code=PureSourceTextInspect()).serialize(function)
    return packed


def _message(task_id: str, buffers: list[str]) -> bytes:
    packed: bytes = pack(Task(task_id=task_id, task_buffer=ComputeSerializer.pack_buffers(buffers)))
    return packed
