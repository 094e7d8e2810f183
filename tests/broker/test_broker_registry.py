"""The table of states and events, and the judgement of an end."""

import signal

import pytest
from twinlock_broker.endpoints import registry
from twinlock_broker.endpoints.last_words import last_words
from twinlock_broker.endpoints.registry import TABLE, Action, Ending, Event, State, judge, restart_delay, settled

EXIT_7 = 7 << 8
KILLED = int(signal.SIGKILL)


def test_every_state_can_be_entered_and_left() -> None:
    for state in State:
        assert any(after is state and before is not state for (before, _), (after, _) in TABLE.items())
        assert any(before is state and after is not state for (before, _), (after, _) in TABLE.items())


def test_every_event_and_action_is_used() -> None:
    assert {event for _, event in TABLE} == set(Event)
    assert {action for _, action in TABLE.values()} == set(Action)


@pytest.mark.parametrize("state", [None, *State])
def test_a_command_is_never_lost(state: State | None) -> None:
    after, action = TABLE[(state, Event.COMMAND)]
    assert after is not None
    assert action in (Action.START, Action.REMEMBER, Action.REFRESH, Action.DELAY)


@pytest.mark.parametrize("state", State)
def test_an_endpoint_can_be_stopped_in_each_state(state: State) -> None:
    _, action = TABLE[(state, Event.STOP)]
    assert action in (Action.STOP, Action.TELL, Action.FORGET)


def test_an_endpoint_is_forgotten_only_when_its_user_knows_or_nobody_waits() -> None:
    gone = {(before, event) for (before, event), (after, action) in TABLE.items() if after is None}
    silent = {(before, event) for before, event in gone if TABLE[(before, event)][1] is not Action.TELL}
    assert silent == {
        (State.RUNNING, Event.STOPPED),  # idle, and no command came meanwhile
        (State.BACKING_OFF, Event.STOP),  # told when it failed
        (State.BACKING_OFF, Event.DUE),
    }


def test_an_endpoint_starts_only_where_none_runs() -> None:
    for (before, event), (after, action) in TABLE.items():
        if action is Action.START:
            ended = event in (Event.RESTART_WANTED, Event.RESUMED)
            assert after is State.STARTING
            assert before in (None, State.RESTART_PENDING) or ended


@pytest.mark.parametrize(
    ("status", "up", "restart_wanted", "event"),
    [
        (0, True, False, Event.STOPPED),
        (0, True, True, Event.RESTART_WANTED),
        (EXIT_7, True, False, Event.FAILED),
        (EXIT_7, True, True, Event.CRASHED),
        (KILLED, True, True, Event.CRASHED),
        (None, True, False, Event.FAILED),
        (None, True, True, Event.CRASHED),
        # before it was up: a newer command would meet the same end, unless it ended of its own will
        (EXIT_7, False, True, Event.FAILED_TO_START),
        (0, False, False, Event.FAILED_TO_START),
        (0, False, True, Event.CRASHED),
    ],
)
def test_ends(status: int | None, up: bool, restart_wanted: bool, event: Event) -> None:
    assert judge(Ending(status, up), State.RUNNING, restart_wanted, 0) is event
    assert judge(Ending(status, up), State.STOPPING, restart_wanted, 0) is (
        Event.RESTART_WANTED if restart_wanted else Event.STOPPED
    )


@pytest.mark.parametrize(
    ("status", "up", "restart_wanted", "event"),
    [
        (KILLED, True, False, Event.UNFINISHED),
        (KILLED, True, True, Event.CRASHED),
        (None, True, False, Event.UNFINISHED),
        (EXIT_7, False, False, Event.UNFINISHED),
        # a shutdown in order leaves what hasn't begun for the next
        (0, True, False, Event.UNFINISHED),
        (0, True, True, Event.RESTART_WANTED),
    ],
)
def test_who_has_unfinished_tasks_is_started_again_whatever_its_end(
    status: int | None, up: bool, restart_wanted: bool, event: Event
) -> None:
    assert judge(Ending(status, up), State.RUNNING, restart_wanted, 0, has_unfinished_tasks=True) is event


def test_an_endpoint_that_the_administrator_stopped_isnt_started_again_for_its_tasks() -> None:
    assert judge(Ending(0, True), State.STOPPING, False, 0, has_unfinished_tasks=True) is Event.STOPPED


def test_revivals_have_an_end() -> None:
    killed = Ending(KILLED, True)
    assert judge(killed, State.RUNNING, False, registry.MAX_REVIVALS - 1, has_unfinished_tasks=True) is Event.UNFINISHED
    assert judge(killed, State.RUNNING, False, registry.MAX_REVIVALS, has_unfinished_tasks=True) is Event.FAILED
    assert "started again 10 times for the tasks that it had" in last_words(killed, "", registry.MAX_REVIVALS)


def test_restarts_have_an_end_and_growing_delays() -> None:
    crash = Ending(EXIT_7, True)
    assert judge(crash, State.RUNNING, True, registry.MAX_CRASHES) is Event.FAILED
    delays = [restart_delay(crashes) for crashes in range(1, 9)]
    assert delays == sorted(delays)
    assert (delays[0], delays[-1]) == (1, 60)


def test_up_is_who_lives_on_after_closing_its_first_output_or_lives_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SETTLED_AFTER", 30.0)
    monkeypatch.setattr(registry, "SETTLED_AFTER_LOG", 3.0)
    assert not settled(now=100, started=99, log_opened=None)
    assert not settled(now=100, started=90, log_opened=99.9)
    assert settled(now=100, started=90, log_opened=96)
    assert settled(now=100, started=60, log_opened=None)


def test_the_user_is_told_how_it_ended() -> None:
    assert "exit code 7 before it was up. It printed:\nboom" in last_words(Ending(EXIT_7, False), "boom")
    assert "It printed nothing" in last_words(Ending(0, False), "")
    assert "killed by signal 9 (Killed). Its own log" in last_words(Ending(KILLED, True), "old")
    assert "lost with the site's spawner" in last_words(Ending(None, True), "")
