"""What the table of an endpoint's states promises, whatever happens in whatever order."""

from hypothesis import given
from hypothesis import strategies as st
from twinlock_endpoint.life.states import TABLE, Action, Event, State


def actions(events: list[Event]) -> tuple[State, list[Action]]:
    """Where an endpoint is after these events, and what it has done."""
    state, done = State.STARTING, []
    for event in events:
        if (state, event) in TABLE:
            state, action = TABLE[state, event]
            done.append(action)
    return state, done


@given(st.lists(st.sampled_from(Event)))
def test_what_is_to_end_stops_once_and_for_all(events: list[Event]) -> None:
    state, done = actions([*events, Event.END, *events])
    assert state is State.STOPPING
    assert (done.count(Action.STOP), done[-1]) == (1, Action.STOP)


@given(st.lists(st.sampled_from(Event)))
def test_a_broken_engine_fails_its_tasks_once_and_serves_no_more(events: list[Event]) -> None:
    before, _ = actions(events)
    after, done = actions([*events, Event.ENGINE_FAILED, *events])
    assert after is not State.SERVING
    if before is not State.STOPPING:
        assert done.count(Action.FAIL_TASKS) == 1


@given(st.lists(st.sampled_from(Event)))
def test_tasks_are_taken_only_when_the_engine_has_started(events: list[Event]) -> None:
    _, done = actions([event for event in events if event is not Event.ENGINE_STARTED])
    assert Action.TAKE_TASKS not in done
