"""More starts than the spawner's policy allows at a time, with a real spawner."""

import asyncio
import os

import pytest
from broker_rig import Told, endpoint_user, numbered, request
from spawner_rig import Spawner, uep
from twinlock_broker.endpoints import start_queue
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.metrics import REGISTRY

SLOW = {"start_rate_per_user": 0.06}
"""One start at once, the next after twenty seconds."""


def events(spawner: Spawner, event: str) -> list[str]:
    """The endpoints about which the audit log has a line with this event."""
    return [line["id"] for line in spawner.audit() if line["event"] == event]


def waited() -> float:
    """Seconds that starts have waited for their turn, by the metrics."""
    return REGISTRY.get_sample_value("twinlock_start_stage_seconds_sum", {"stage": "queue"}) or 0


@pytest.mark.parametrize("policy", [{"start_rate_per_user": 0.5}])  # ten at once, then one every two seconds
async def test_a_burst_of_starts_comes_to_run(supervisor: Supervisor, spawner: Spawner, told: Told) -> None:
    before = waited()
    await asyncio.gather(*(supervisor.command(numbered(number, endpoint_user())) for number in range(12)))
    assert waited() - before > 2, "the metrics tell of their wait"
    assert sorted(events(spawner, "spawned")) == [uep(number) for number in range(12)]
    assert {line.get("stage") for line in spawner.audit() if line["event"] == "refused"} <= {"rate"}
    assert told.notices == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("policy", [SLOW | {"system_uids": []}])
async def test_a_start_that_waits_holds_up_no_other(supervisor: Supervisor, spawner: Spawner, told: Told) -> None:
    await supervisor.command(numbered(1, endpoint_user()))
    waiting = asyncio.create_task(supervisor.command(numbered(2, endpoint_user())))
    await asyncio.to_thread(spawner.said.wait_for, "too many starts")
    await supervisor.command(numbered(3, "daemon"))
    assert events(spawner, "spawned") == [uep(1), uep(3)]
    assert not waiting.done()
    assert told.notices == []
    waiting.cancel()


@pytest.mark.parametrize("policy", [SLOW])
@pytest.mark.parametrize(("name", "value"), [("LIMIT", 5.0), ("MOST", 0)])
async def test_a_start_whose_turn_is_too_far_is_told(
    supervisor: Supervisor, told: Told, monkeypatch: pytest.MonkeyPatch, name: str, value: float
) -> None:
    monkeypatch.setattr(start_queue, name, value)
    await supervisor.command(numbered(1, endpoint_user()))
    await supervisor.command(request(endpoint_user(), "sleep"))
    [(text, _)] = told.notices
    assert "more often than this site allows: too many starts; again in " in text
