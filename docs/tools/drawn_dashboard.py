"""The dashboard in packaging/monitoring as a picture of each row, drawn from what a Prometheus answers to its queries.

Grafana has looks of its own. Places, titles, queries, legends, words, colours and units of the panels are the file's.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

FILE = Path(__file__).parents[2] / "packaging" / "monitoring" / "twinlock-dashboard.json"
VARIABLES = {"$instance": ".*", "$__rate_interval": "10s"}
"""What is put in the place of Grafana's variables; the second one is four times as long as between two scrapes."""

_COLUMNS, _UNIT_X, _UNIT_Y = 24, 0.5, 0.36
"""The width of a dashboard in Grafana's units, and inches for a unit of width and of height."""

_COLOURS = {"red": "#f4b6b0", "orange": "#fbdcae", "green": "#bfe3c0"}
_MOST_LEGENDS = 6
_STYLE: dict[Any, Any] = {
    "font.size": 7,
    "svg.fonttype": "none",  # texts stay texts
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Series:
    """What a query gives for one set of labels."""

    legend: str
    labels: Mapping[str, str]
    times: list[float]
    """In minutes since the beginning."""
    values: list[float]


Ask = Callable[[str], list[tuple[dict[str, str], list[float], list[float]]]]
"""Returns the answer to a query as labels, times and values of each series."""

Panel = dict[str, Any]


def draw(ask: Ask, files: Mapping[str, Path]) -> None:
    """Write pictures of some rows into these files, by the rows' titles."""
    with mpl.rc_context(_STYLE):
        for title, panels in rows(json.loads(FILE.read_text())["panels"]):
            if title in files:
                _row(panels, ask).savefig(files[title], metadata={"Date": None})


def rows(panels: list[Panel]) -> Iterator[tuple[str, list[Panel]]]:
    """Yield the title of each row, and its panels."""
    starts = [number for number, panel in enumerate(panels) if panel["type"] == "row"]
    for start, end in zip(starts, [*starts[1:], len(panels)], strict=True):
        yield panels[start]["title"], panels[start + 1 : end]


def _row(panels: list[Panel], ask: Ask) -> Figure:
    top = min(panel["gridPos"]["y"] for panel in panels)
    units = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) - top
    figure = Figure(figsize=(_COLUMNS * _UNIT_X, units * _UNIT_Y))
    for panel in panels:
        axes = figure.add_axes(_place(panel["gridPos"], top, units))
        axes.set_title(panel["title"], loc="left", fontsize=8, fontweight="bold")
        _KINDS[panel["type"]](axes, panel, list(_series(panel, ask)))
    return figure


def _place(place: dict[str, int], top: int, units: int) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of a panel's axes as shares of the picture, with room around them."""
    left, width = place["x"] + 0.9, place["w"] - 1.3
    lowest, height = place["y"] - top + place["h"] - 0.9, place["h"] - 1.9
    return left / _COLUMNS, 1 - lowest / units, width / _COLUMNS, height / units


def _series(panel: Panel, ask: Ask) -> Iterator[Series]:
    for target in panel["targets"]:
        expression = target["expr"]
        for name, value in VARIABLES.items():
            expression = expression.replace(name, value)
        for labels, times, values in ask(expression):
            yield Series(_legend(target["legendFormat"], labels), labels, times, values)


def _legend(form: str, labels: Mapping[str, str]) -> str:
    return re.sub(r"{{(\w+)}}", lambda found: labels.get(found[1], ""), form)


def _draw_words(axes: Axes, panel: Panel, series: list[Series]) -> None:
    """Draw the last values, by the words that the panel has for them."""
    defaults = panel["fieldConfig"]["defaults"]
    words = defaults["mappings"][0]["options"] if defaults["mappings"] else {}
    last = [words.get(f"{one.values[-1]:g}", {"text": one.legend, "color": ""}) for one in series]
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(_COLOURS.get(last[0]["color"], "white") if last else "white")
    shown = ", ".join(dict.fromkeys(word["text"] for word in last)) or "no data"
    axes.text(0.5, 0.5, shown, ha="center", va="center", fontsize=11, transform=axes.transAxes)


def _draw_times(axes: Axes, panel: Panel, series: list[Series]) -> None:
    """Draw lines, or stacked bars."""
    defaults = panel["fieldConfig"]["defaults"]
    if defaults["custom"].get("drawStyle") == "bars":
        _draw_bars(axes, series)
    else:
        for one in series:
            axes.plot(one.times, one.values, label=one.legend, linewidth=1)
    axes.margins(y=0.3)  # room for the legend
    axes.set_ylim(bottom=0)
    if defaults["unit"] == "s":
        axes.yaxis.set_major_formatter(EngFormatter("s"))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    if not series:
        _say_nothing(axes)
    elif len(series) <= _MOST_LEGENDS:
        axes.legend(loc="upper left", frameon=False, fontsize=6)


def _draw_bars(axes: Axes, series: list[Series]) -> None:
    bottoms: dict[float, float] = {}
    for one in series:
        below = [bottoms.get(time, 0.0) for time in one.times]
        width = min((later - time for time, later in zip(one.times, one.times[1:], strict=False)), default=0.1)
        axes.bar(one.times, one.values, width, bottom=below, label=one.legend)
        bottoms |= {time: low + value for time, low, value in zip(one.times, below, one.values, strict=True)}


def _draw_buckets(axes: Axes, _panel: Panel, series: list[Series]) -> None:
    """Draw how many are in each bucket; Prometheus counts in each the smaller ones as well."""
    by_limit = sorted(series, key=lambda one: float(one.labels["le"]))
    if not by_limit:
        _say_nothing(axes)
        return
    cells, below = [], [0.0] * len(by_limit[0].values)
    for one in by_limit:
        cells.append([more - less for more, less in zip(one.values, below, strict=True)])
        below = one.values
    axes.pcolormesh(by_limit[0].times, range(len(cells)), cells, cmap="Oranges", shading="nearest", rasterized=True)
    axes.set_yticks(range(len(cells)), [f"{one.labels['le']} s" for one in by_limit], fontsize=5)


def _say_nothing(axes: Axes) -> None:
    axes.text(0.5, 0.5, "no data", ha="center", va="center", color="gray", transform=axes.transAxes)


_KINDS = {"stat": _draw_words, "timeseries": _draw_times, "heatmap": _draw_buckets}
