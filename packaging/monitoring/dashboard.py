"""dashboard.py: print twinlock-dashboard.json, the rows and panels in the form that Grafana imports.

`make dashboard` writes the file. The form is that of Grafana's manual, "Dashboard JSON model", for Grafana 10.4 and
later.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

from dashboard_panels import Panel, Query
from dashboard_rows import ROWS

_COLUMNS = 24  # a dashboard's width
_SCHEMA = 39  # of Grafana 10.4; later ones bring it up to date by themselves
_SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}
_LINE = 120  # characters


def dashboard() -> dict[str, Any]:
    """Return the dashboard."""
    numbers = itertools.count(1)
    return {
        "uid": "twinlock",
        "title": "Twinlock",
        "description": "The brokers of Twinlock, a manager endpoint of Globus Compute.",
        "tags": ["twinlock"],
        "schemaVersion": _SCHEMA,
        "editable": True,
        "graphTooltip": 1,
        "time": {"from": "now-6h", "to": "now"},
        "refresh": "1m",
        "templating": {"list": list(_variables())},
        "panels": [{"id": next(numbers), **panel} for panel in _panels()],
    }


def text(value: Any, indent: str = "", before: int = 0) -> str:
    """Return a value as JSON, in one line where that has room after `before` characters."""
    line = json.dumps(value)
    if not isinstance(value, dict | list) or len(indent) + before + len(line) < _LINE:
        return line
    deeper = indent + " "
    if isinstance(value, list):
        parts = [deeper + text(item, deeper) for item in value]
        return "[\n" + ",\n".join(parts) + f"\n{indent}]"
    keys = {key: f"{json.dumps(key)}: " for key in value}
    parts = [deeper + name + text(value[key], deeper, len(name)) for key, name in keys.items()]
    return "{\n" + ",\n".join(parts) + f"\n{indent}}}"


def _variables() -> Iterator[dict[str, Any]]:
    """Yield what people choose at the top: where the metrics are, and which brokers are shown."""
    yield {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus", "current": {}}
    values = "label_values(twinlock_spawner_connected, instance)"
    yield {
        "name": "instance",
        "label": "Broker",
        "type": "query",
        "datasource": _SOURCE,
        "definition": values,
        "query": {"query": values, "refId": "instance"},
        "refresh": 2,  # whenever the time range changes
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def _panels() -> Iterator[dict[str, Any]]:
    """Yield the rows' headings and panels, each with its place."""
    top = 0
    for title, panels in ROWS.items():
        yield {"title": title, "type": "row", "collapsed": False, "gridPos": _place(0, top, _COLUMNS, 1), "panels": []}
        top += 1
        for line in _lines(panels):
            lefts = itertools.accumulate((panel.width for panel in line), initial=0)
            for left, panel in zip(lefts, line, strict=False):
                yield _panel(panel, _place(left, top, panel.width, panel.height))
            top += max(panel.height for panel in line)


def _lines(panels: Iterable[Panel]) -> Iterator[list[Panel]]:
    """Break a row into lines that are no wider than the dashboard."""
    line: list[Panel] = []
    for panel in panels:
        if sum(one.width for one in line) + panel.width > _COLUMNS:
            yield line
            line = []
        line.append(panel)
    yield line


def _place(left: int, top: int, width: int, height: int) -> dict[str, int]:
    return {"x": left, "y": top, "w": width, "h": height}


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    return {
        "title": panel.title,
        "type": panel.kind,
        "description": panel.description,
        "datasource": _SOURCE,
        "gridPos": place,
        "targets": [_target(panel, *one) for one in zip("ABC", panel.queries, strict=False)],
        "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
        "options": panel.options,
    }


def _target(panel: Panel, name: str, query: Query) -> dict[str, Any]:
    expression, legend = query
    form = "heatmap" if panel.kind == "heatmap" else "time_series"
    return {"refId": name, "expr": expression, "legendFormat": legend, "format": form}


def _defaults(panel: Panel) -> dict[str, Any]:
    words = {
        str(value): {"text": word, "color": color, "index": value} for value, (word, color) in enumerate(panel.words)
    }
    mappings = [{"type": "value", "options": words}] if words else []
    return {"unit": panel.unit, "min": 0, "custom": panel.custom, "mappings": mappings}


if __name__ == "__main__":
    print(text(dashboard()))
