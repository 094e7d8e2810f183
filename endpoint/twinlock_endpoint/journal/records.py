"""The records of the journal, each a msgpack array: the kind, the task's id, and what belongs to the kind."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import msgpack

from twinlock_endpoint.task import Task


class Kind(IntEnum):
    """What happened. The numbers stand in files."""

    TAKEN = 1
    """The endpoint has the task: [attempts, function id, resources, result serializers, body]."""
    TRIED = 2
    """So often it was handed to an engine by now: [attempts, sure]. It replaces the number in TAKEN.

    Whether the last attempt got as far as a worker is in the engine's own file, unless it is sure here.
    """
    ANSWERED = 3
    """There is a result: [packed result]."""
    DONE = 4
    """RabbitMQ has the result: []. Nothing of the task is needed any more."""


@dataclass(slots=True)
class Record:
    """One record."""

    kind: Kind
    task_id: str
    payload: bytes = field(repr=False)
    """The record as it is written, packed."""
    safe: Callable[[OSError | None], None] | None = None
    """Called in the loop when the record is written, or with the error if it can't be."""

    @property
    def durable(self) -> bool:
        """Whether it has to outlive the host before `safe` is called; the others have to outlive this process then."""
        return self.kind <= Kind.TRIED


def taken(task: Task, attempts: int) -> bytes:
    """Pack a task that was taken, and its number of attempts, which counts one that begins now."""
    values = [Kind.TAKEN, task.id, attempts, task.function_id, task.resources, task.result_serializers, task.body]
    return bytes(msgpack.packb(values))


def tried(task_id: str, attempts: int, sure: bool) -> bytes:
    """Pack a task's number of attempts."""
    return bytes(msgpack.packb([Kind.TRIED, task_id, attempts, sure]))


def answered(task_id: str, result: bytes) -> bytes:
    """Pack a task's result."""
    return bytes(msgpack.packb([Kind.ANSWERED, task_id, result]))


def done(task_id: str) -> bytes:
    """Pack a task's end."""
    return bytes(msgpack.packb([Kind.DONE, task_id]))


def read(payload: bytes) -> tuple[Kind, str, list[Any]]:
    """Return kind, task id and the rest. Raise `ValueError` for what none of the functions above wrote."""
    try:
        kind, task_id, *rest = msgpack.unpackb(payload)
        return Kind(kind), str(task_id), rest
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise ValueError(f"not a record: {error}") from error


def task(task_id: str, rest: list[Any]) -> tuple[Task, int]:
    """Return the task in a TAKEN record, and its attempts. Raise `ValueError` as `read` does."""
    match rest:
        case [int(attempts), str(function_id), dict(resources), list(serializers), bytes(body)]:
            return Task(task_id, function_id, body, resources, tuple(serializers)), attempts
    raise ValueError("not a task")


def attempts(rest: list[Any]) -> tuple[int, bool]:
    """Return the number in a TRIED record, and whether it is sure. Raise `ValueError` as `read` does."""
    match rest:
        case [int(attempts), bool(sure)]:
            return attempts, sure
    raise ValueError("not a number of attempts")


def result(rest: list[Any]) -> bytes:
    """Return the packed result in an ANSWERED record. Raise `ValueError` as `read` does."""
    match rest:
        case [bytes(result)]:
            return result
    raise ValueError("not a result")
