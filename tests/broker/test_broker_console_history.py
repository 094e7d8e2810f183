"""What the console remembers: series, quantiles, and what became of endpoints, in bounded memory."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from top_rig import answer, row
from twinlock_broker.console import tracks
from twinlock_broker.console.history import History
from twinlock_broker.console.increases import Increases
from twinlock_broker.console.lifelines import ENDED, MOST_ENDED, MOST_STATES, Lifelines
from twinlock_broker.console.quantiles import quantile
from twinlock_broker.console.series import POINTS, Series

STEP = 60.0
"""Seconds of a step in a history of six hours."""


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000_000 * STEP

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


@pytest.fixture
def history(watch: Watch) -> History:
    return History(6.0, watch)  # type: ignore[arg-type]  # a clock all the same


def said(
    *rows: dict[str, Any], starts: float = 0, counts: tuple[float, ...] = (0, 0, 0), broker: float = 0
) -> dict[str, Any]:
    """The answers of a broker that was started at this time."""
    times = {"bounds": [1.0, 2.0], "counts": list(counts)}
    figures = {"starts": {"started": starts}, "commands": {}, "stages": {}, "seconds": times}
    return answer(*rows, started=broker, start_figures=figures)


def busy(done: float, number: int = 1, user: str = "ada") -> dict[str, Any]:
    """An endpoint that has done so many tasks."""
    return row(number, user, figures={"done_tasks": done, "running_tasks": 2, "memory_bytes": 1024})


@given(st.lists(st.tuples(st.integers(0, 2 * POINTS), st.integers(0, 100)), max_size=60))
def test_a_series_has_the_last_value_of_each_step(noted: list[tuple[int, int]]) -> None:
    series, model = Series(), dict[int, float]()
    for step, value in sorted(noted, key=lambda pair: pair[0]):
        series.put(step, value)
        model[step] = value
    until = 2 * POINTS
    assert series.until(until) == [model.get(step) for step in range(until - POINTS + 1, until + 1)]


def test_tasks_per_second_are_of_what_ended_meanwhile(history: History, watch: Watch) -> None:
    history.note(said(busy(1000)))
    watch.now += STEP
    history.note(said(busy(1120), busy(5, 2, "bob")))
    watch.now += STEP
    history.note(said(busy(1120), busy(65, 2, "bob")))
    assert history.of_all()["rate"][-3:] == [0.0, 2.0, 60.0], "the last step has just begun, a second ago at least"
    watch.now += STEP / 2
    assert history.of_all()["rate"][-3:] == [0.0, 2.0, 2.0]
    assert history.of_user("ada")["rate"][-3:] == [0.0, 2.0, 0.0]
    assert history.of_user("nobody")["rate"] == [None] * POINTS
    assert history.rate(row(2)["id"]) == 1.0
    history.note(said(busy(1120), busy(95, 2, "bob")))
    assert history.rate(row(2)["id"]) == 1.0, "90 in the last one and a half minutes"


def test_a_total_that_begins_anew(history: History, watch: Watch) -> None:
    """An endpoint was started again; then the broker was, which doesn't know its figures at first."""
    endpoint = row(1)["id"]
    for done in (1000, 30):
        history.note(said(busy(done)))
        watch.now += STEP
    history.note(said(row(1)))
    watch.now += STEP
    history.note(said(busy(90)))
    watch.now += STEP - 1
    rates = history.of_endpoint(endpoint)["rate"]
    assert rates[-4:] == [0.0, 0.5, 0.0, pytest.approx(60 / (STEP - 1))]


def test_starts_by_outcome_and_their_times(history: History, watch: Watch) -> None:
    history.note(said(starts=7, counts=(7, 0, 0)))
    watch.now += STEP
    history.note(said(starts=9, counts=(8, 1, 0)))
    history.note(said(starts=2, counts=(0, 2, 0), broker=1))
    found = history.of_all()
    assert found["outcomes"]["started"][-2:] == [0.0, 4.0], "the broker was started again meanwhile"
    assert found["median"][-2:] == [None, pytest.approx(4 / 3)], "1 below a second, 3 below two"


def test_what_was_while_the_broker_was_away_is_not_known(history: History, watch: Watch) -> None:
    history.note(said(busy(1)))
    watch.now += 3 * STEP
    history.note(said(busy(1)))
    assert history.of_all()["running"][-4:] == [2.0, None, None, 2.0]


def test_memory_is_bounded(history: History, watch: Watch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracks, "MOST", 3)
    for number in range(20):
        watch.now += 2 * STEP
        history.note(said(*(busy(1, 10 * number + one, f"user-{number}") for one in range(10))))
    assert len(history.of_all()["time"]) == POINTS
    kept = [number for number in range(20) if history.of_user(f"user-{number}")["running"] != [None] * POINTS]
    assert kept == [17, 18, 19]
    assert len(history.lifelines.ended()) <= MOST_ENDED


def test_those_that_have_a_track_keep_it_while_they_are_there(
    history: History, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many others there are, or else nobody would have more than the last point."""
    monkeypatch.setattr(tracks, "MOST", 3)
    for _ in range(5):
        watch.now += STEP
        history.note(said(*(busy(1, number, f"user-{number}") for number in range(10))))
    lengths = [POINTS - history.of_user(f"user-{number}")["running"].count(None) for number in range(10)]
    assert sorted(lengths) == [0] * 7 + [5] * 3


def test_nobodys_endpoints_push_out_all_others_that_have_ended() -> None:
    lifelines = Lifelines()
    lifelines.note([row(1, "ada")], 0)
    for number in range(2, 2 * MOST_ENDED):
        lifelines.note([row(number, "mallory")], number)
    ended = lifelines.ended()
    assert len(ended) == MOST_ENDED
    assert "ada" in {lifeline.row["user"] for lifeline in ended}


def test_an_endpoints_states() -> None:
    lifelines = Lifelines()
    for at, state in enumerate(["starting", "running", "running", "stopping"]):
        lifelines.note([row(1, state=state)], at)
    lifelines.note([], 9)
    lifeline = lifelines.of(row(1)["id"])
    assert lifeline is not None
    assert list(lifeline.states) == [(0, "starting"), (1, "running"), (3, "stopping"), (9, ENDED)]
    assert lifelines.of(row(2)["id"]) is None
    for at in range(100):
        lifelines.note([row(3, state=f"state {at}")], at)
    found = lifelines.of(row(3)["id"])
    assert found is not None
    assert len(found.states) == MOST_STATES


@pytest.mark.parametrize(
    ("part", "counts", "value"),
    [
        (0.5, [0, 0, 0], None),
        (0.5, [4, 0, 0], 0.5),
        (0.5, [1, 1, 0], 1.0),
        (0.75, [1, 1, 0], 1.5),
        (0.95, [0, 0, 3], 2.0),
    ],
)
def test_quantiles(part: float, counts: list[float], value: float | None) -> None:
    assert quantile(part, [1.0, 2.0], counts) == value


def test_increases_forget_what_is_gone() -> None:
    increases = Increases()
    assert increases.of("a", 5, unseen=0) == 5
    assert increases.of("a", 6, unseen=0) == 1
    increases.keep({"b"})
    assert increases.of("a", 6, unseen=6) == 0
