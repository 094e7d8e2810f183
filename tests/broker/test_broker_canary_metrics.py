"""What the broker exports of the canary's reports."""

import json
import logging
import time

import pytest
from broker_site import Site, ask
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import CollectorRegistry

GOOD = {"request": "canary", "success": True, "seconds": 1.5, "text": "result after 1.5 s"}
BAD = {"request": "canary", "success": False, "seconds": None, "text": "login: refused\x1b[31m" + "x" * 10_000}


def exported(site: Site) -> dict[str, float]:
    """The values, by the metric's name without its common beginning."""
    registry = CollectorRegistry()
    registry.register(site.canary)
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {one.name.removeprefix("twinlock_canary_"): one.value for family in families for one in family.samples}


async def report(site: Site, request: object) -> dict[str, object]:
    """The admin socket's answer to the report."""
    return await ask(site.runtime / "admin.sock", json.dumps(request))


async def test_nothing_is_exported_where_there_is_no_canary(site: Site) -> None:
    assert exported(site) == {}


async def test_a_report_is_exported(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    before = time.time()
    assert await report(site, GOOD) == {"noted": True}
    first = exported(site)
    assert (first["success"], first["seconds"]) == (1, 1.5)
    assert before <= first["last_run_timestamp_seconds"] == first["last_success_timestamp_seconds"] <= time.time()
    assert await report(site, BAD) == {"noted": True}
    second = exported(site)
    assert second["success"] == 0
    assert "seconds" not in second, "it was never submitted"
    assert second["last_success_timestamp_seconds"] == first["last_success_timestamp_seconds"]
    assert second["last_run_timestamp_seconds"] >= first["last_run_timestamp_seconds"]
    (said,) = [record.getMessage() for record in caplog.records if "the canary failed" in record.getMessage()]
    assert said.startswith("the canary failed: login: refused")
    assert said.isprintable()
    assert len(said) < 600


@pytest.mark.parametrize(
    "changes",
    [
        {"success": 1},
        {"success": None},
        {"text": None},
        {"seconds": "1"},
        {"seconds": -1},
        {"seconds": 1e300},
        {"seconds": True},
        {"seconds": [1]},
    ],
    ids=range(8),
)
async def test_a_report_that_is_none_changes_nothing(site: Site, changes: dict[str, object]) -> None:
    answer = await report(site, GOOD | changes)
    assert "not a request: a canary's report" in str(answer["error"])
    assert exported(site) == {}
