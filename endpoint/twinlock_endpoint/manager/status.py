"""The endpoint's heartbeat: a status report with who it is, since when, and what its engine does."""

import math
import os
import pwd
from datetime import datetime
from typing import Any

from twinlock_endpoint.worker import messages

LARGEST = 1 << 20
"""Bytes of a heartbeat. One that would be larger leaves out the single nodes and the configuration."""

_LARGE = ("node_info", "config_raw")


def identity(info: dict[str, Any], config_raw: str) -> dict[str, Any]:
    """Return the part that stays the same: what the manager endpoint said (`info`), the process, the start."""
    now = datetime.now().astimezone()
    return {
        **info,
        "posix_username": pwd.getpwuid(os.getuid()).pw_name,
        "posix_uid": os.getuid(),
        "posix_gid": os.getgid(),
        "posix_groups": os.getgroups(),
        "posix_pid": os.getpid(),
        "posix_sid": os.getsid(0),
        "config_raw": config_raw,
        "start_iso": now.isoformat(),
        "start_unix": now.timestamp(),
    }


def report(endpoint_id: str, identity: dict[str, Any], figures: dict[str, Any], period_s: float) -> bytes:
    """Return a packed heartbeat. A period of 0 says that this endpoint is shutting down."""
    state = {**figures, **identity, "heartbeat_period": period_s, "active": period_s > 0}
    packed = _pack(endpoint_id, state)
    if len(packed) > LARGEST:
        packed = _pack(endpoint_id, {name: value for name, value in state.items() if name not in _LARGE})
    return packed


def _pack(endpoint_id: str, state: dict[str, Any]) -> bytes:
    parts = {"endpoint_id": endpoint_id, "global_state": _finite(state), "task_statuses": {}}
    return messages.pack("ep_status_report", parts)


def _finite(value: Any) -> Any:
    """Return the value with None in place of numbers that aren't finite.

    JSON has no infinity, with which Parsl says that there is no limit; the service reads null.
    """
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {name: _finite(part) for name, part in value.items()}
        case list() | tuple() | set():
            return [_finite(part) for part in value]
    return value
