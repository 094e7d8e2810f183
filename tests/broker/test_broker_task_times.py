"""How long tasks take, as endpoints tell it and the broker exports it for all of them together."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broker_rig import UEP, Told, endpoint_user, request
from broker_site import CALLER, OTHER, RETURNING, Site, another, says, serving
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from spawner_rig import PYTHON, Spawner
from twinlock_broker.control import messages
from twinlock_broker.endpoints.endpoint import Endpoint
from twinlock_broker.endpoints.task_times import MOST_A_SECOND, SLACK
from twinlock_broker.metrics import REGISTRY
from twinlock_common.task_times import BOUNDS, RUN, WAIT


@pytest.fixture
def policy() -> dict[str, object]:
    """Programs that connect to the broker."""
    programs = {"caller": CALLER, "returning": RETURNING}
    return {"programs": {name: [*PYTHON, code] for name, code in programs.items()}}


def histogram(total: float, **buckets: int) -> dict[str, Any]:
    """A histogram; `buckets` are the counts that aren't 0, as `b0` for the first one."""
    counts = [buckets.get(f"b{number}", 0) for number in range(len(BOUNDS) + 1)]
    return {"counts": counts, "sum": total}


def figures(name: str, run: dict[str, Any], **others: object) -> dict[str, Any]:
    """A message with a histogram of how long tasks ran; `name` is a figure by which it is known."""
    return {"type": "figures", "figures": {name: 1}, "histograms": {RUN: run} | others}


def exported(name: str = RUN) -> dict[str, float]:
    """The samples of one of the histograms, as Prometheus reads them; a bucket's name is its upper end."""
    families = text_string_to_metric_families(generate_latest(REGISTRY).decode())
    [family] = [one for one in families if one.name == f"twinlock_{name}"]
    ends = {sample.labels.get("le", sample.name.rpartition("_")[2]): sample.value for sample in family.samples}
    return {name: value for name, value in ends.items() if name != "created"}


def grown(before: dict[str, float], name: str = RUN) -> dict[str, float]:
    """What has been added, without the zeros."""
    return {sample: value - before[sample] for sample, value in exported(name).items() if value != before[sample]}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


def only(site: Site) -> Endpoint:
    """The endpoint that there is."""
    [endpoint] = site.supervisor.endpoints
    return endpoint


async def test_what_endpoints_tell_is_added_up(site: Site) -> None:
    before, waits = exported(), exported(WAIT)
    first = figures("first", histogram(0.6, b0=1, b1=1), **{WAIT: histogram(20, b5=1)})
    second = figures("second", histogram(4.6, b0=1, b1=1, b3=1))
    await site.supervisor.command(request(endpoint_user(), "caller", says(first, second)))
    await site.figures("second")
    await site.supervisor.command(another("caller", says(figures("other", histogram(0.05, b0=2)))))
    await site.figures("other", OTHER)
    longer = [str(bound) for bound in BOUNDS[3:]] + ["+Inf", "count"]
    assert grown(before) == {"0.1": 3, "0.5": 4, "1.0": 4} | dict.fromkeys(longer, 5) | {"sum": pytest.approx(4.65)}
    assert grown(waits, WAIT)["sum"] == pytest.approx(20)


async def test_a_process_that_connects_again_is_counted_once(site: Site) -> None:
    before = exported()
    told = figures("first", histogram(3, b3=1), note="hang up"), figures("second", histogram(5, b3=2))
    await site.supervisor.command(request(endpoint_user(), "returning", says(*told)))
    await site.figures("second")
    assert grown(before)["count"] == 2
    assert grown(before)["sum"] == pytest.approx(5)


async def test_the_next_process_of_an_endpoint_counts_from_the_beginning(site: Site) -> None:
    before = exported()
    for number in (1, 2):
        await site.supervisor.command(request(endpoint_user(), "caller", says(figures("told", histogram(3, b3=1)))))
        await site.figures("told")
        assert grown(before)["count"] == number
        await site.supervisor.stop(UEP)
        await until(lambda: not list(site.supervisor.endpoints))


async def test_what_an_earlier_broker_counted_isnt_counted_again(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path
) -> None:
    later = figures("second", histogram(9, b3=3)), figures("third", histogram(11, b3=4))
    config = says(figures("first", histogram(3, b3=1))) + says(*later).replace("\n", "+", 1)
    async with serving(spawner, told, runtime, tmp_path) as site:
        await site.supervisor.command(request(endpoint_user(), "returning", config))
        await site.figures("first")
    before = exported()
    async with serving(spawner, told, runtime, tmp_path) as site:
        await site.figures("third")
    assert grown(before)["count"] == 1
    assert grown(before)["sum"] == pytest.approx(2)


async def test_who_takes_back_what_was_counted_is_disconnected(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    before = exported()
    told = figures("first", histogram(6, b3=2)), figures("second", histogram(6, b3=1))
    await site.supervisor.command(request(endpoint_user(), "caller", says(*told)))
    await until(lambda: "a histogram has less in it than before" in caplog.text)
    await until(lambda: site.sessions.figures(only(site)) is None)
    assert grown(before)["count"] == 2


TOO_MANY = round(MOST_A_SECOND * (SLACK + 3600))


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        (histogram(0, b0=TOO_MANY), f"{TOO_MANY} tasks within"),
        (histogram(86401, b11=1), "1 tasks with 86401 s in all, from a process of"),
        (histogram(100_000, b3=10_000), "10000 tasks with 100000 s in all"),
        (histogram(5, b0=2), "2 tasks with 5 s in all"),
        (histogram(5, b4=3), "3 tasks with 5 s in all"),
    ],
)
async def test_times_that_cant_be_true_arent_counted(
    site: Site, caplog: pytest.LogCaptureFixture, claimed: dict[str, Any], words: str
) -> None:
    before, left_out = exported(), REGISTRY.get_sample_value("twinlock_dropped_total", {"what": "task_times"}) or 0
    await site.supervisor.command(
        request(endpoint_user(), "caller", says(figures("here", claimed), figures("still", claimed)))
    )
    await site.figures("still")
    assert grown(before) == {}
    assert REGISTRY.get_sample_value("twinlock_dropped_total", {"what": "task_times"}) == left_out + 2
    assert caplog.text.count("can't be true") == 1
    assert words in caplog.text


@pytest.mark.parametrize(
    "found",
    [
        [],
        "none",
        {str(number): histogram(0) for number in range(40)},
        {RUN: None},
        {RUN: [1]},
        {RUN: {"counts": [0] * len(BOUNDS), "sum": 0}},
        {RUN: {"counts": [0] * 13, "sum": 0}},
        {RUN: {"counts": "0" * 12, "sum": 0}},
        {RUN: histogram(0, b0=-1)},
        {RUN: histogram(0) | {"counts": [0.5] * 12}},
        {RUN: histogram(0) | {"counts": [True] * 12}},
        {RUN: histogram(0) | {"counts": [1 << 60] * 12}},
        {RUN: histogram(-1)},
        {RUN: histogram(float("nan"))},
        {RUN: histogram(float("inf"))},
        {RUN: histogram(1e300)},
        {RUN: histogram(0) | {"sum": "0"}},
        {WAIT: {}},
    ],
)
def test_what_is_no_histogram_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="histogram"):
        messages.read_histograms({"histograms": found})


def test_an_endpoint_of_another_version_tells_nothing_or_more() -> None:
    assert messages.read_histograms({}) == {}
    assert messages.read_histograms({"histograms": {"of_a_later_version": [1, 2, 3]}}) == {}
