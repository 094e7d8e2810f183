"""What users are told when the spawner refuses a start, at each of its stages."""

import pytest
from broker_rig import Told, check_notice, endpoint_user, request
from docs_texts import stages
from spawner_rig import uep
from twinlock_broker.endpoints.refusals import explain
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_wire import wire

OWN_WORDS = {"policy", "limit", "lookup", "rate", "session", "session-groups", "blocked", "draining"}
"""Stages whose reason is made for people; the others' may be any error of the system."""


def test_each_stage_is_told_with_a_next_step_and_without_a_path() -> None:
    for stage in stages() | {"host", "unanswered", "lost"}:
        reason = "it isn't allowed" if stage in OWN_WORDS else "[Errno 5] hush: '/home/ada/x'"
        check_notice(explain(wire.Refused(uep(1), stage, reason), "ada"))


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"max_children_per_user": 0}, "limit of endpoints is reached: account"),
        ({"allowed_shells": ["/bin/no-such-shell"]}, "policy doesn't let the account"),
        ({"exec_timeout": 0.0}, "took longer than this site allows"),
    ],
)
async def test_the_spawners_no_reaches_the_user(supervisor: Supervisor, told: Told, words: str) -> None:
    await supervisor.command(request(endpoint_user(), "sleep"))
    assert words in told.notices[-1][0]
    assert "spawner: " in told.notices[-1][1], "the administrator sees the stage and the reason"


@pytest.mark.parametrize("policy", [{"programs": {"data": ["/etc/passwd"]}}])
async def test_a_program_that_cant_be_executed(supervisor: Supervisor, told: Told) -> None:
    await supervisor.command(request(endpoint_user(), "data"))
    assert "can't be executed on this host" in told.notices[-1][0]
