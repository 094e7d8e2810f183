"""What viewers are shown at a moment, each what they may see."""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from twinlock_broker.console.history import History
from twinlock_broker.console.lifelines import Lifeline, Row
from twinlock_broker.console.quantiles import quantile
from twinlock_broker.console.start_tracks import QUANTILES
from twinlock_broker.console.viewer import Viewer
from twinlock_broker.top.figures import of_row
from twinlock_broker.top.picture import Picture

_FOR_EVERYBODY = ("endpoint", "name", "started")
_FOR_ADMINISTRATORS = (*_FOR_EVERYBODY, "version", "spawner_connected", "amqp", "drain", "blocked")
_OF_FAILURE = ("endpoint", "command", "stage", "reason", "printed", "user", "options", "commanded", "at")
"""What the account may know of its failures: not the identities behind it, nor what is for administrators."""
_OF_ROW = ("id", "user", "state", "mode", "signed", "pid", "restart_waits", "condition")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What is known at a moment."""

    picture: Picture | None
    """What the broker answered last; None if it hasn't answered since the console's start."""
    trouble: str
    """Why there is no newer picture; empty if it is up to date."""
    history: History
    """What was before."""
    _events: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def event(self, name: str, viewer: Viewer) -> bytes:
        """Return an event: `state`, `failures` or `series`. All who may see the same get the same."""
        key = name, "" if viewer.is_administrator else viewer.user
        if key not in self._events:
            parts = {"state": self.state, "failures": self.failures, "series": self.series}
            data = json.dumps(parts[name](viewer), allow_nan=False)
            self._events[key] = f"event: {name}\ndata: {data}\n\n".encode()
        return self._events[key]

    def state(self, viewer: Viewer) -> dict[str, Any]:
        """Return the broker's state, the endpoints, and to administrators how starts went."""
        answer = self._answer
        rows = [self._endpoint(row) for row in self._visible(answer.get("endpoints", ()), viewer)]
        ended = [_ended(lifeline) for lifeline in self.history.lifelines.ended() if _may_see(lifeline.row, viewer)]
        shown = {"broker": self._broker(viewer), "endpoints": rows, "ended": ended}
        figures = answer.get("start_figures")
        return shown | ({"starts": _starts(figures)} if viewer.is_administrator and figures else {})

    def failures(self, viewer: Viewer) -> list[dict[str, Any]]:
        """Return the last failures, the newest first."""
        found = self._visible(self._answer.get("failures", ()), viewer)
        return [dict(each) if viewer.is_administrator else {name: each[name] for name in _OF_FAILURE} for each in found]

    def series(self, viewer: Viewer) -> dict[str, Any]:
        """Return the series for plots."""
        return self.history.of_all() if viewer.is_administrator else self.history.of_user(viewer.user)

    def past(self, endpoint_id: str, viewer: Viewer) -> dict[str, Any] | None:
        """Return the series and states of an endpoint; None if it isn't known, or not the viewer's to see."""
        lifeline = self.history.lifelines.of(endpoint_id)
        if lifeline is None or not _may_see(lifeline.row, viewer):
            return None
        return {"series": self.history.of_endpoint(endpoint_id), "states": list(lifeline.states)}

    @property
    def _answer(self) -> Mapping[str, Any]:
        return {} if self.picture is None else self.picture.answer

    def _visible(self, found: Iterable[Row], viewer: Viewer) -> list[Row]:
        return [each for each in found if _may_see(each, viewer)]

    def _broker(self, viewer: Viewer) -> dict[str, Any]:
        names = _FOR_ADMINISTRATORS if viewer.is_administrator else _FOR_EVERYBODY
        known = {name: self._answer[name] for name in names if name in self._answer}
        waiting = {"waiting": self._answer.get("starts", {}).get("waiting")} if viewer.is_administrator else {}
        trouble = self.trouble if viewer.is_administrator or not self.trouble else "the broker doesn't answer"
        taken = None if self.picture is None else time.time() - (time.monotonic() - self.picture.taken)
        return known | waiting | {"trouble": trouble, "taken": taken}

    def _endpoint(self, row: Row) -> dict[str, Any]:
        return _told(row) | asdict(of_row(row)) | {"rate": self.history.rate(row["id"])}


def _may_see(found: Row, viewer: Viewer) -> bool:
    return viewer.is_administrator or found["user"] == viewer.user


def _told(row: Row) -> dict[str, Any]:
    """Return what isn't a number."""
    return {name: row[name] for name in _OF_ROW} | {
        "options": row.get("options", ""),
        "batch_jobs": row.get("jobs", []),
        "age": row["seconds"],
    }


def _ended(lifeline: Lifeline) -> dict[str, Any]:
    at, _ = lifeline.states[-1]
    return {"id": lifeline.row["id"], "user": lifeline.row["user"], "at": at, "done": of_row(lifeline.row).done}


def _starts(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return outcomes, and how often and how long each stage was, since the broker's start."""
    return {
        "commands": figures["commands"],
        "outcomes": figures["starts"],
        "stages": [_stage("start", figures["seconds"]), *(_stage(*stage) for stage in figures["stages"].items())],
    }


def _stage(name: str, times: Mapping[str, Any]) -> dict[str, Any]:
    quantiles = {title: quantile(part, times["bounds"], times["counts"]) for title, part in QUANTILES.items()}
    return {"stage": name, "count": sum(times["counts"])} | quantiles
