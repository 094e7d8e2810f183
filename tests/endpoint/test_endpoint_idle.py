"""When an idle endpoint shuts down."""

from twinlock_endpoint.life.idle import Idle, IdleClock

PERIOD = 30


def beats(clock: IdleClock, received: int, settled: int, count: int) -> list[Idle]:
    return [clock.beat(received, settled) for _ in range(count)]


def test_a_soft_limit_of_zero_is_never() -> None:
    assert not any(idle.word for idle in beats(IdleClock(0, 1, PERIOD), 0, 0, 1000))


def test_soft_counts_down_when_all_work_is_done() -> None:
    clock = IdleClock(2, 100, PERIOD)
    assert clock.beat(1, 1) == Idle()  # the task moved since the last beat
    first, second = beats(clock, 1, 1, 2)
    assert (first, first.over) == (Idle("idle", 30), False)
    assert second.over


def test_soft_does_not_count_before_the_first_work() -> None:
    assert not any(idle.over for idle in beats(IdleClock(1, 100, PERIOD), 0, 0, 100))


def test_soft_counts_from_the_start_after_a_predecessors_work() -> None:
    assert [idle.over for idle in beats(IdleClock(2, 100, PERIOD, restarted=True), 0, 0, 2)] == [False, True]
    assert not any(idle.over for idle in beats(IdleClock(1, 100, PERIOD, restarted=True), 1, 0, 100))


def test_soft_does_not_count_while_a_task_runs() -> None:
    assert not any(idle.over for idle in beats(IdleClock(1, 100, PERIOD), 2, 1, 100))


def test_movement_starts_the_count_again() -> None:
    clock = IdleClock(2, 100, PERIOD)
    beats(clock, 1, 1, 2)
    assert clock.beat(2, 1) == Idle()
    assert clock.beat(2, 2) == Idle()
    assert not clock.beat(2, 2).over
    assert clock.beat(2, 2).over


def test_hard_ends_an_endpoint_that_never_worked() -> None:
    shown = beats(IdleClock(1, 3, PERIOD), 0, 0, 4)
    assert [idle.word for idle in shown] == ["", "possibly idle", "possibly idle", "possibly idle"]
    assert [idle.over for idle in shown] == [False, False, False, True]
    assert [idle.seconds_left for idle in shown] == [0, 30, 0, 0], "as the agent counts them"


def test_hard_is_longer_than_soft_whatever_was_configured() -> None:
    shown = beats(IdleClock(5, 2, PERIOD), 0, 0, 7)
    assert [idle.over for idle in shown] == [False] * 6 + [True]


def test_an_idle_endpoint_knows_how_long_it_stays() -> None:
    clock = IdleClock(3, 100, PERIOD)
    assert clock.seconds_left(0, 0) is None
    clock.beat(1, 1)
    assert clock.seconds_left(1, 1) is None, "it was busy at the last beat"
    clock.beat(1, 1)
    left = clock.seconds_left(1, 1)
    assert left is not None
    assert PERIOD < left <= 2 * PERIOD
    assert clock.seconds_left(2, 1) is None, "a task has come since"


def test_an_endpoint_without_a_limit_tells_no_end() -> None:
    clock = IdleClock(0, 1, PERIOD)
    beats(clock, 1, 1, 10)
    assert clock.seconds_left(1, 1) is None
