"""What the broker tells administrators and users about an endpoint; `commands.answers` has the same as a schema."""

import time
from dataclasses import asdict
from typing import Any

from twinlock_broker.control.sessions import Sessions
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.options_text import shorten


def row(endpoint: Endpoint, sessions: Sessions) -> dict[str, Any]:
    """Return what is known of an endpoint, as JSON has it."""
    told = sessions.told(endpoint)
    return {
        "id": endpoint.id,
        "user": endpoint.user,
        "state": endpoint.state.value if endpoint.state else "",
        "mode": endpoint.mode or "",
        "signed": asdict(endpoint.signed) if endpoint.signed else None,
        "pid": endpoint.pid,
        "seconds": round(time.monotonic() - endpoint.started) if endpoint.pid else None,
        "restart_waits": endpoint.has_newer_request,
        "figures": sessions.figures(endpoint),
        "condition": told.condition,
        "jobs": told.jobs,
        "options": shorten(endpoint.request.options) if endpoint.request else "",
    }
