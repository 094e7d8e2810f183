"""The dashboard: it is what its table says, and asks for what there is."""

import itertools
import json
from pathlib import Path

import dashboard
import yaml
from monitoring_rig import DASHBOARD, alerts, exported, metrics_in, promtool, queries

PANELS = json.loads(DASHBOARD.read_text())["panels"]
QUERIES = list(queries())


def test_the_file_is_made_from_the_table() -> None:
    assert DASHBOARD.read_text() == f"{dashboard.text(dashboard.dashboard())}\n", "run `make dashboard`"


def test_the_form_of_the_file_keeps_its_content() -> None:
    assert json.loads(DASHBOARD.read_text()) == dashboard.dashboard()


def test_no_panel_covers_another() -> None:
    places = [panel["gridPos"] for panel in PANELS]
    cells = [
        cell
        for place in places
        for cell in itertools.product(
            range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        )
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


def test_panels_can_be_told_apart() -> None:
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)
    titles = [panel["title"] for panel in PANELS if panel["type"] != "row"]
    assert len(set(titles)) == len(titles)
    assert all(panel["description"] for panel in PANELS if panel["type"] != "row")


def test_prometheus_can_read_each_query(tmp_path: Path) -> None:
    rules = [{"record": f"query:{number}", "expr": query} for number, (_, query) in enumerate(QUERIES)]
    (tmp_path / "rules.yml").write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    promtool("check", "rules", tmp_path / "rules.yml")


def test_each_metric_that_is_asked_for_is_one_that_the_broker_exports() -> None:
    there = set().union(*exported().values())
    asked = [*QUERIES, *((name, rule["expr"]) for name, rule in alerts().items())]
    assert {title: names for title, query in asked if (names := metrics_in(query) - there)} == {}


def test_each_metric_that_the_broker_exports_is_shown() -> None:
    shown = set().union(*(metrics_in(query) for _, query in QUERIES))
    assert [name for name, samples in exported().items() if not samples & shown] == []
