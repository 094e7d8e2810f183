"""The content of a delivery: its task."""

import json
import logging
import re
import uuid
from contextlib import suppress
from typing import Any

from twinlock_common.amqp.consumer import Message

from twinlock_endpoint.task import Task
from twinlock_endpoint.worker.messages import unpack
from twinlock_endpoint.worker.texts import cut

log = logging.getLogger(__name__)

_LONGEST_ID = 100  # characters; an UUID has 36
_ID = re.compile("[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def task_id(delivery: Message) -> str | None:
    """Return the task's id from the header, as the service sends it; else from the body; None if neither has one."""
    header = _headers(delivery).get("task_uuid")
    if isinstance(header, str) and _ID.fullmatch(header):  # as a rule; much quicker than making an UUID of it
        return header
    with suppress(ValueError):
        return str(uuid.UUID(str(header)))
    try:
        return str(uuid.UUID(unpack(delivery.body, "task")["task_id"]))
    except Exception:
        log.debug("A message has no task id", exc_info=True)  # who drops it says so
        return None


def task(task_id: str, delivery: Message) -> Task:
    """Return the task. Raise `ValueError` if the message can't be one.

    The body is for the worker to read: it may be 10 MiB.
    """
    told = _headers(delivery)
    if delivery.body[:1] != b"\x01":
        raise ValueError("the message has an unknown format")
    resources: Any = json.loads(told.get("resource_specification") or "null") or {}
    serializers = told.get("result_serializers") or ()
    if not isinstance(resources, dict):
        raise ValueError("the resource specification is not a mapping")
    if not isinstance(serializers, list | tuple):
        raise ValueError("the result serializers are not a list")
    function_id = cut(str(told.get("function_uuid")).lower(), _LONGEST_ID)
    return Task(task_id, function_id, delivery.body, resources, tuple(map(str, serializers)))


def _headers(delivery: Message) -> dict[str, Any]:
    return delivery.properties.headers or {}
