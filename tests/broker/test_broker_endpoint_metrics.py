"""What the broker exports about user endpoints, by what these have told, and about their way to it."""

from pathlib import Path

import pytest
from broker_rig import Told, endpoint_user, request
from broker_site import CALLER, OTHER, RETURNING, Site, another, says, serving
from spawner_rig import PYTHON, Spawner
from twinlock_broker.control.endpoint_metrics import UserEndpoints
from twinlock_broker.metrics import REGISTRY

FIRST, SECOND = ({"type": "figures", "figures": {name: 1}} for name in ("first", "second"))


@pytest.fixture
def policy() -> dict[str, object]:
    """Programs that connect to the broker."""
    programs = {"caller": CALLER, "returning": RETURNING}
    return {"programs": {name: [*PYTHON, code] for name, code in programs.items()}}


def samples(site: Site) -> dict[tuple[str, str, str], float]:
    """The values of tasks and workers, by name, user and state."""
    families = UserEndpoints(site.supervisor, site.sessions.told).collect()
    found = [sample for family in families for sample in family.samples if family.name != "twinlock_endpoints"]
    return {(one.name, one.labels["user"], one.labels["state"]): one.value for one in found}


def online() -> float:
    """How many endpoints have come online."""
    return REGISTRY.get_sample_value("twinlock_start_stage_seconds_count", {"stage": "online"}) or 0


async def test_tasks_and_workers_are_the_sums_of_a_users_connected_endpoints(site: Site) -> None:
    first = {"running_tasks": 2, "queued_tasks": 5, "total_workers": 4, "idle_workers": 1}
    second = {"running_tasks": 1, "queued_tasks": 0, "total_workers": 1, "idle_workers": 0}
    await site.supervisor.command(request(endpoint_user(), "caller", says({"type": "figures", "figures": first})))
    await site.supervisor.command(another("caller", says({"type": "figures", "figures": second})))
    await site.figures("running_tasks")
    await site.figures("running_tasks", OTHER)
    user = endpoint_user()
    assert samples(site) == {
        ("twinlock_tasks", user, "running"): 3,
        ("twinlock_tasks", user, "queued"): 5,
        ("twinlock_workers", user, "busy"): 4,
        ("twinlock_workers", user, "idle"): 1,
    }


async def test_figures_that_cant_be_are_not_below_zero(site: Site) -> None:
    odd = {"running_tasks": -7, "total_workers": 2, "idle_workers": 5}
    await site.supervisor.command(request(endpoint_user(), "caller", says({"type": "figures", "figures": odd})))
    await site.figures("running_tasks")
    user = endpoint_user()
    assert samples(site) == {
        ("twinlock_tasks", user, "running"): 0,
        ("twinlock_workers", user, "busy"): 0,
        ("twinlock_workers", user, "idle"): 2,
    }


async def test_an_endpoint_that_tells_nothing_has_no_tasks_and_no_workers(site: Site) -> None:
    hello = says({"type": "figures", "figures": {"here": 1}})
    await site.supervisor.command(request(endpoint_user(), "caller", hello))
    await site.figures("here")
    assert samples(site) == {}


async def test_a_process_comes_online_once(site: Site) -> None:
    before = online()
    await site.supervisor.command(request(endpoint_user(), "returning", says(FIRST | {"then": "hang up"}, SECOND)))
    await site.figures("second")
    assert online() == before + 1


async def test_what_an_earlier_broker_started_does_not_come_online_again(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path
) -> None:
    async with serving(spawner, told, runtime, tmp_path) as site:
        await site.supervisor.command(request(endpoint_user(), "returning", says(FIRST, SECOND)))
        await site.figures("first")
    before = online()
    async with serving(spawner, told, runtime, tmp_path) as site:
        await site.figures("second")
    assert online() == before
