"""The kinds of panels on the dashboard, and the queries that many of them have."""

from dataclasses import dataclass, field
from typing import Any

AT = 'instance=~"$instance"'
"""What each query selects: the brokers that are chosen at the top of the dashboard."""

_WINDOW = "[$__rate_interval]"
_QUANTILES = (0.5, 0.95, 0.99)
_STAT_HEIGHT, _GRAPH_HEIGHT = 4, 8

Query = tuple[str, str]
"""A query and the legend of its series."""

Words = tuple[str, str]
"""A word in place of a value, and its colour."""


@dataclass(frozen=True)
class Panel:
    """One panel of the dashboard. Width and height are in the units of Grafana's `gridPos`."""

    title: str
    kind: str
    """Grafana's type of panel."""
    description: str
    queries: tuple[Query, ...]
    unit: str = "short"
    """Grafana's name of the unit."""
    width: int = 8
    height: int = _GRAPH_HEIGHT
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of this type of panel."""
    custom: dict[str, Any] = field(default_factory=dict)
    """Settings of this type of panel for each series."""
    words: tuple[Words, ...] = ()
    """What is shown in place of 0 and 1."""


def stat(title: str, description: str, query: Query, *words: Words) -> Panel:
    """Return a panel with the last value of each series; without `words`, with the series' legend."""
    options = {
        "colorMode": "background" if words else "none",
        "graphMode": "none",
        "textMode": "auto" if words else "name",
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
    }
    return Panel(title, "stat", description, (query,), width=4, height=_STAT_HEIGHT, options=options, words=words)


def lines(title: str, description: str, *queries: Query, unit: str = "short") -> Panel:
    """Return a panel with lines over time."""
    return Panel(title, "timeseries", description, queries, unit, options=_legend(), custom={"fillOpacity": 10})


def bars(title: str, description: str, query: Query) -> Panel:
    """Return a panel with numbers of events over time, stacked."""
    custom = {"drawStyle": "bars", "fillOpacity": 80, "stacking": {"mode": "normal", "group": "A"}}
    return Panel(title, "timeseries", description, (query,), options=_legend(), custom=custom)


def quantiles(title: str, description: str, histogram: str) -> Panel:
    """Return a panel with quantiles of a histogram in seconds."""
    rates = f"sum by (le) (rate({histogram}_bucket{{{AT}}}{_WINDOW}))"
    queries = [(f"histogram_quantile({share}, {rates})", f"{share:.0%}") for share in _QUANTILES]
    return lines(title, description, *queries, unit="s")


def heatmap(title: str, description: str, histogram: str) -> Panel:
    """Return a panel with the numbers in the buckets of a histogram in seconds, over time."""
    query = f"sum by (le) (increase({histogram}_bucket{{{AT}}}{_WINDOW}))"
    color = {"mode": "scheme", "scheme": "Oranges", "steps": 64}
    options = {"calculate": False, "cellGap": 1, "color": color, "yAxis": {"unit": "s"}}
    return Panel(title, "heatmap", description, ((query, "{{le}}"),), "s", options=options)


def gauge(name: str, legend: str = "{{instance}}") -> Query:
    """Return a query for each series of a gauge."""
    return f"{name}{{{AT}}}", legend


def sums(name: str, label: str, only: str = "") -> Query:
    """Return a query for the sums of a gauge by a label; `only` chooses some of its series."""
    return f"sum by ({label}) ({name}{{{_chosen(only)}}})", f"{{{{{label}}}}}"


def events(counter: str, label: str, only: str = "") -> Query:
    """Return a query for the numbers of events by a label; `only` chooses some of them."""
    return f"sum by ({label}) (increase({counter}{{{_chosen(only)}}}{_WINDOW}))", f"{{{{{label}}}}}"


def slowest(histogram: str, label: str) -> Query:
    """Return a query for the seconds that 95 % don't exceed, by a label."""
    rates = f"sum by (le, {label}) (rate({histogram}_bucket{{{AT}}}{_WINDOW}))"
    return f"histogram_quantile(0.95, {rates})", f"{{{{{label}}}}}"


def per_minute(counter: str) -> Query:
    """Return a query for how often something happens in a minute."""
    return f"60 * rate({counter}{{{AT}}}{_WINDOW})", "{{instance}}"


def _chosen(only: str) -> str:
    return f"{AT}, {only}" if only else AT


def _legend() -> dict[str, Any]:
    return {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}}
