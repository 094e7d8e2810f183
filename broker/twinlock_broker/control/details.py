"""What the administrator can ask about one endpoint, besides its row in the status.

Requests are JSON objects: {"request": "config", "endpoint": UUID}, {"request": "events", "endpoint": UUID} and
{"request": "failures", "endpoint": UUID, or without one all}.
"""

from collections.abc import Callable, Mapping
from typing import Any

from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.logs import Recent

_USER_DIR = "GLOBUS_COMPUTE_USER_DIR"

Answer = Callable[[Mapping[str, Any]], dict[str, Any]]


class Details:
    """The answers about `supervisor`'s endpoints, their failures, and the `recent` lines of the broker's log."""

    def __init__(self, supervisor: Supervisor, recent: Recent) -> None:
        self._supervisor = supervisor
        self._recent = recent
        self.known: Mapping[str, Answer] = {
            "config": self._config,
            "events": lambda request: {"events": self._recent.about(str(request.get("endpoint")))},
            "failures": lambda request: {"failures": supervisor.failures.of(request.get("endpoint"))},
        }
        """The questions that there are, by the request's name."""

    def _config(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the rendered configuration, None if it isn't known; and where the endpoint has its folder."""
        asked = (one.request for one in self._supervisor.endpoints if one.id == request.get("endpoint"))
        found = next(asked, None)
        if found is None:
            return {"config": None, "user_dir": ""}
        return {"config": found.document.config, "user_dir": found.document.environment.get(_USER_DIR, "")}
