"""The alerts: each has what an administrator needs when it fires, and does as it should."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from monitoring_rig import ROOT, RULES, UNIT_TESTS, alerts, promtool

ALERTS = alerts()
RUNBOOK = (ROOT / "docs" / "monitoring.md").read_text()
OPERATION = (ROOT / "docs" / "operate.md").read_text()


def unit_tests() -> list[dict[str, Any]]:
    """The unit tests, of which YAML has put the parts together."""
    tests: list[dict[str, Any]] = yaml.safe_load(UNIT_TESTS.read_text())["tests"]
    return tests


def expected(test: dict[str, Any]) -> list[list[str]]:
    """The labels of the alerts that a unit test expects, at one time after the other."""
    return [[sample["labels"] for sample in one["exp_samples"]] for one in test["promql_expr_test"]]


def test_prometheus_accepts_the_rules() -> None:
    promtool("check", "rules", RULES)


def test_the_alerts_pass_their_unit_tests() -> None:
    promtool("test", "rules", UNIT_TESTS)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(name: str) -> None:
    rule = ALERTS[name]
    assert re.fullmatch(r"\d+[mhd]", rule["for"])
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["annotations"].keys() == {"summary", "description", "runbook"}
    assert rule["annotations"]["runbook"] == f"docs/monitoring.md#{name.lower()}"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_its_place_in_the_runbook(name: str) -> None:
    _, found, entry = RUNBOOK.partition(f"\n### {name}\n")
    assert found
    assert len(entry.partition("\n### ")[0].split()) > 30, "what it means, what to look at, what to do"
    severity = ALERTS[name]["labels"]["severity"]
    assert f"| [`{name}`](monitoring.md#{name.lower()}) | {severity} |" in OPERATION


def test_the_runbook_is_about_alerts_that_there_are() -> None:
    headings = set(re.findall(r"^### (Twinlock\w+)$", RUNBOOK, re.MULTILINE))
    listed = set(re.findall(r"^\| \[`(Twinlock\w+)`\]", OPERATION, re.MULTILINE))
    assert headings == listed == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_a_unit_test_has_the_alert_fire_and_stop(name: str) -> None:
    labels = f'{{alertname="{name}"}}'
    found = [times for test in unit_tests() if [labels] in (times := expected(test))]
    assert found
    assert all(times == [[], [labels], []] for times in found)


def test_the_healthy_site_has_all_that_alerts_look_at() -> None:
    """What isn't there can't show that an alert is quiet."""
    healthy = unit_tests()[0]
    assert expected(healthy) == [[]]
    there = {one["series"].partition("{")[0] for one in healthy["input_series"]}
    used = {name for rule in ALERTS.values() for name in re.findall(r"\b(?:twinlock_\w+|up)\b", rule["expr"])}
    assert used <= there


def test_a_first_event_is_seen() -> None:
    """Prometheus sees no increase of a series that begins with its first event."""
    wanted = [
        ("twinlock_commands_total", {"outcome": "dropped"}),
        ("twinlock_notices_total", {"outcome": "lost"}),
        ("twinlock_amqp_connected", {"link": "commands"}),
        ("twinlock_amqp_connected", {"link": "heartbeats"}),
    ]
    code = (
        "import json, sys; from twinlock_broker.metrics import REGISTRY\n"
        "print(json.dumps([REGISTRY.get_sample_value(*one) for one in json.load(sys.stdin)]))"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, input=json.dumps(wanted), capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [0.0] * len(wanted)


def test_prometheus_accepts_the_configuration_in_the_manual(tmp_path: Path) -> None:
    [config] = re.findall(r"```yaml\n# /etc/prometheus/prometheus.yml\n(.*?)```", RUNBOOK, re.DOTALL)
    (tmp_path / "prometheus.yml").write_text(config)
    shutil.copy(RULES, tmp_path)
    promtool("check", "config", tmp_path / "prometheus.yml")
    assert [job["job_name"] for job in yaml.safe_load(config)["scrape_configs"]] == ["twinlock"]
