"""`ep_status_report` messages: one byte of version, then JSON (package globus-compute-common, `messagepack`)."""

import json

_VERSION = b"\x01"
_NOTICE_PERIOD = 3
MAX_TEXT = 6000
"""Characters of a notice's text."""


def heartbeat(endpoint_id: str, period: float) -> bytes:
    """Return a heartbeat of `endpoint_id`, the next one due in `period` seconds; 0 says that it shuts down."""
    return _report(endpoint_id, {"heartbeat_period": period})


def failure(endpoint_id: str, text: str) -> bytes:
    """Return the notice that `endpoint_id` failed: the service ends its unfinished tasks with `text`."""
    safe = text[:MAX_TEXT].encode("utf-8", "replace").decode()
    return _report(endpoint_id, {"error": safe, "heartbeat_period": _NOTICE_PERIOD})


def _report(endpoint_id: str, state: dict[str, str | float]) -> bytes:
    data = {"endpoint_id": endpoint_id, "global_state": state, "task_statuses": {}}
    return _VERSION + json.dumps({"message_type": "ep_status_report", "data": data}).encode()
