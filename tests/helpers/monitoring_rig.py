"""The alerts and the dashboard as files, and a Prometheus that works with them."""

import asyncio
import contextlib
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import reference
import yaml
from patience import SECONDS
from service_rig import free_port

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "packaging" / "monitoring"
RULES = MONITORING / "twinlock-alerts.yml"
UNIT_TESTS = MONITORING / "twinlock-alerts-test.yml"
DASHBOARD = MONITORING / "twinlock-dashboard.json"

_VARIABLES = {"$instance": ".*", "$__rate_interval": "1m"}
"""What Grafana puts in the place of its variables."""


def alerts() -> dict[str, dict[str, Any]]:
    """The alerts by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def queries() -> Iterator[tuple[str, str]]:
    """Each query of the dashboard as Grafana asks it, after its panel's title."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            expression = target["expr"]
            for name, value in _VARIABLES.items():
                expression = expression.replace(name, value)
            yield panel["title"], expression


def exported() -> dict[str, set[str]]:
    """The metrics that the broker exports, each with the names of its samples; docs/operate.md lists them."""
    parts = {"histogram": ("_bucket", "_sum", "_count")}
    return {row.name: {row.name + part for part in parts.get(row.kind, ("",))} for row in reference.rows("metrics")}


def metrics_in(expression: str) -> set[str]:
    """The names of our metrics in an expression."""
    return set(re.findall(r"\btwinlock_\w+", expression))


def promtool(*arguments: str | Path) -> None:
    """Have promtool check something. Fails with what it says; skips the test where it isn't installed."""
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool")
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A Prometheus that scrapes a broker each second. Its answers are awaited as long as those of a busy machine."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    @classmethod
    @contextlib.asynccontextmanager
    async def running(cls, folder: Path, target: str, rules: str) -> AsyncIterator["Prometheus"]:
        """It, while the block runs, with these rules and its files in `folder`."""
        port = free_port()
        (folder / "rules.yml").write_text(rules)
        scrape = {"job_name": "twinlock", "static_configs": [{"targets": [target]}]}
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        config = {"global": every, "rule_files": ["rules.yml"], "scrape_configs": [scrape]}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        argv = ["prometheus", f"--web.listen-address=127.0.0.1:{port}"]
        argv += [f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
        with (folder / "prometheus.log").open("w") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
            try:
                made = cls(port)
                await made.ready()
                yield made
            finally:
                process.kill()

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """What a query gives now. Raises `urllib.error.HTTPError` if Prometheus can't carry it out."""
        found: list[dict[str, Any]] = (await self._get("query", query=expression))["result"]
        return found

    async def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        found = (await self._get("alerts"))["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    async def ready(self) -> None:
        """Wait until it answers."""
        async with asyncio.timeout(SECONDS):
            while not await asyncio.to_thread(_answers, f"{self._url}/-/ready"):
                await asyncio.sleep(0.1)

    async def until(self, expression: str) -> None:
        """Wait until the query gives something."""
        async with asyncio.timeout(SECONDS):
            while not await self.query(expression):
                await asyncio.sleep(0.2)

    async def until_firing(self, *names: str) -> None:
        """Wait until these alerts fire, and no others."""
        async with asyncio.timeout(SECONDS):
            while await self.firing() != set(names):
                await asyncio.sleep(0.2)

    async def _get(self, what: str, **parameters: str) -> Any:
        return await asyncio.to_thread(_fetch, f"{self._url}/api/v1/{what}?{urlencode(parameters)}")


def _fetch(url: str) -> Any:
    with urlopen(url, timeout=SECONDS) as answer:
        return json.load(answer)["data"]


def _answers(url: str) -> bool:
    try:
        with urlopen(url, timeout=SECONDS):
            return True
    except (URLError, ConnectionError):  # it isn't up yet, or still reads what it has on disk
        return False
