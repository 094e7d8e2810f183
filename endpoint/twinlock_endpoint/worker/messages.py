"""The service's messages, without the classes of globus-compute-common: those cost each process 0.2 s and 15 MB.

Protocol version 1 of its `messagepack`: a byte 0x01, then a JSON object of `message_type` and `data`. What is made here
reads as what the classes make; the tests read it with them.
"""

import json
import re
from typing import Any, NamedTuple

_VERSION = b"\x01"
_LONGEST_END = 300
_WORKED = re.compile(
    rb'"task_statuses":\[\{"timestamp":([0-9]{1,19}),"state":"execution-start","actor":"worker"\},'
    rb'\{"timestamp":([0-9]{1,19}),"state":"execution-end","actor":"worker"\}\]\}\}\Z'
)
"""The end of a result that a worker has made; the timestamps are in nanoseconds."""
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


_LONGEST_REST = 2500  # a text of at most 1,000 characters may come before the end
_WORKER = re.compile(rb'"worker":"([\w.:-]{1,100})","endpoint_id":"[0-9a-f-]{36}"\},"error_details":')
_ERROR = re.compile(rb',"error_details":\{"code":"([^"\\]{1,64})"')


class Worked(NamedTuple):
    """How a result was made. Times are in seconds since 1970, 0 if no worker has made it."""

    start: float
    end: float
    worker: str
    """The worker's host and process; empty if it doesn't say."""
    error: str
    """The error's code; empty if the task has succeeded."""


class NotAMessageError(ValueError):
    """The bytes are no message of the wanted type."""


def pack(message_type: str, data: dict[str, Any]) -> bytes:
    """Return the bytes of a message. Raise `ValueError` or `TypeError` if JSON can't say what is in it."""
    return _VERSION + _ENCODER.encode({"message_type": message_type, "data": data}).encode()


def unpack(body: bytes, message_type: str) -> dict[str, Any]:
    """Return the data of a message of that type."""
    if body[:1] != _VERSION:
        raise NotAMessageError("the message has an unknown format")
    envelope = json.loads(body[1:])
    if not isinstance(envelope, dict) or not isinstance(envelope.get("data"), dict):
        raise NotAMessageError("the message has no data")
    if envelope.get("message_type") != message_type:
        raise NotAMessageError(f"a message of type {envelope.get('message_type')} is no {message_type}")
    data: dict[str, Any] = envelope["data"]
    return data


def result(
    task_id: str,
    data: str,
    states: list[dict[str, Any]],
    *,
    error: tuple[str, str] | None = None,
    details: dict[str, Any] | None = None,
) -> bytes:
    """Return a packed result. `error` is the code and the text of the service's record of a task that failed."""
    described = {"code": error[0], "user_message": error[1]} if error else None
    parts = {"task_id": task_id, "data": data, "details": details, "error_details": described, "task_statuses": states}
    return pack("result", parts)


def is_result_of(task_id: str, sent: object) -> bool:
    """Return whether a worker has sent the result of a task, as far as the beginning shows that `result` has made."""
    beginning = f'{{"message_type":"result","data":{{"task_id":"{task_id}",'
    return isinstance(sent, bytes) and sent.startswith(_VERSION + beginning.encode())


def seconds_in_worker(result: bytes) -> float | None:
    """Return how long a worker had the task of a packed result; None if the result's end doesn't say so."""
    found = _WORKED.search(result[-_LONGEST_END:])
    return max(0, int(found[2]) - int(found[1])) / 1e9 if found else None


def end_of(result: bytes) -> bytes:
    """Return the part of a packed result that `worked` reads."""
    return result[-_LONGEST_REST:]


def worked(end: bytes) -> Worked:
    """Return what the end of a packed result says about its making."""
    made = _WORKED.search(end)
    start, ended = (int(made[1]) / 1e9, int(made[2]) / 1e9) if made else (0.0, 0.0)
    worker, error = _WORKER.search(end), _ERROR.search(end)
    return Worked(start, ended, worker[1].decode() if worker else "", error[1].decode() if error else "")


def transition(state: str, actor: str, timestamp_ns: int) -> dict[str, Any]:
    """Return one step of a task's life for `result`: `execution-start` or `execution-end`, and who took it."""
    return {"timestamp": timestamp_ns, "state": state, "actor": actor}
