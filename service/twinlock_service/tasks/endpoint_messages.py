"""Messages of endpoints, read within limits: whoever sends one may send anything."""

from __future__ import annotations

import logging
import re
from typing import TypeVar

from globus_compute_common import messagepack
from globus_compute_common.messagepack.message_types import EPStatusReport, Result
from twinlock_common.amqp.consumer import Message
from twinlock_common.log_ration import LogRation

from twinlock_service.limits.json_complexity import JsonLimitError, NotJsonError, check_json, check_json_in_turns
from twinlock_service.rabbitmq.topology import endpoint_of
from twinlock_service.tasks.failures import failed_result

MAX_RESULT = 32 * 1024 * 1024
"""Bytes of a result: 20 MiB of data, and what its serialization and JSON add to it."""

MAX_REPORT = 1024 * 1024
"""Bytes of a status report; those of endpoints with a thousand nodes have some hundred thousand."""

MAX_VALUES = 10_000
"""Values in either."""

_TASK_ID = re.compile(rb'"task_id": ?"([0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})"')
_HEAD = 4096

M = TypeVar("M", Result, EPStatusReport)

warnings = LogRation(logging.getLogger(__name__))


class LimitError(Exception):
    """A message is beyond a limit; the text says which, for whoever waits for what it says."""


async def read_result(delivery: Message) -> tuple[Result, bytes] | None:
    """Return a result and the message that is to be passed on for it, or None if the message can't be used.

    Let others work meanwhile. If the result is beyond a limit, return in its place an error for the task that it names.
    """
    try:
        _check_size(delivery, MAX_RESULT)
        await check_json_in_turns(_json_of(delivery), MAX_VALUES)
        result = _read(delivery, Result)
        return None if result is None else (result, delivery.body)
    except (LimitError, JsonLimitError, NotJsonError) as error:
        warn(delivery, "sent a result that is not taken: %s", error)
        named = _TASK_ID.search(delivery.body, 0, _HEAD)
        if named is None:
            return None
        instead = failed_result(named[1].decode(), f"The service does not take the result: {error}")
        return instead, messagepack.pack(instead)


def read_report(delivery: Message) -> EPStatusReport | None:
    """Return a status report, or None if the message can't be used."""
    try:
        _check_size(delivery, MAX_REPORT)
        check_json(_json_of(delivery), MAX_VALUES)
        return _read(delivery, EPStatusReport)
    except (LimitError, JsonLimitError, NotJsonError) as error:
        warn(delivery, "sent a status report that is not taken: %s", error)
        return None


def warn(delivery: Message, text: str, *values: object) -> None:
    """Log what is wrong with a message, each kind once a minute for each endpoint. `values` are as for a logger."""
    origin = endpoint_of(delivery.exchange)
    warnings.warning(origin, f"endpoint %s {text}", origin, *values)


def _check_size(delivery: Message, limit: int) -> None:
    size = len(delivery.body)
    if size > limit:
        raise LimitError(f"it has {size:,} bytes, and at most {limit:,} are allowed")


def _json_of(delivery: Message) -> bytes:
    """Return what follows the byte that names the format's version."""
    return delivery.body[1:]


def _read(delivery: Message, kind: type[M]) -> M | None:
    try:
        message = messagepack.unpack(delivery.body)
    # On hostile input the decoder raises ValueError, KeyError, RecursionError and more; nobody else may suffer from it.
    except Exception as error:
        warn(delivery, "sent a message that can't be read (%s); ignored", type(error).__name__)
        return None
    if not isinstance(message, kind):
        warn(delivery, "sent a %s where a %s belongs; ignored", message.message_type, kind.__name__)
        return None
    return message
