"""Blocks that are given back to the scheduler, and tasks that are on their way to them at that moment."""

from pathlib import Path
from typing import Any

from interchange_rig import site
from parsl.jobs.states import JobState, JobStatus
from twinlock_endpoint.htex.idle_blocks import idlest
from twinlock_endpoint.htex.messages import RETIRE_BLOCK

RUNNING = JobStatus(JobState.RUNNING)


def pool(block: str, idle: float, tasks: int = 0, *, active: bool = True) -> dict[str, Any]:
    """A connected worker pool."""
    return {"block_id": block, "idle_duration": idle, "tasks": tasks, "active": active}


def test_those_first_that_were_idle_for_longest() -> None:
    statuses = {"a": RUNNING, "b": RUNNING, "waits": JobStatus(JobState.PENDING)}
    managers = [pool("a", 5), pool("b", 9)]
    assert idlest(statuses, managers, None) == ["waits", "b", "a"]
    assert idlest(statuses, managers, 7) == ["waits", "b"]


def test_none_of_which_one_pool_has_a_task_or_had_one_just_now() -> None:
    statuses = {"a": RUNNING, "b": RUNNING, "ended": JobStatus(JobState.COMPLETED)}
    managers = [pool("a", 9), pool("a", 0, tasks=1), pool("b", 9), pool("b", 1), pool("ended", 9)]
    assert idlest(statuses, managers, None) == ["b"]
    assert idlest(statuses, managers, 1) == []


def test_a_block_with_a_task_stays_and_gets_more(tmp_path: Path) -> None:
    with site(tmp_path) as made:
        made.submit(1)
        assert made.ask([RETIRE_BLOCK, "0"]) is False
        # In the interchange's table of pools, the pool's task ends.
        made.interchange._ready_managers[b"pool"]["tasks"].clear()  # noqa: SLF001
        made.submit(2)
        assert made.sent == [2]


def test_a_block_that_is_given_back_gets_no_task(tmp_path: Path) -> None:
    """Nor does another pool of it that connects only then."""
    with site(tmp_path) as made:
        assert made.ask([RETIRE_BLOCK, "0"]) is True
        made.connect("late")
        made.connect("other", block="1")
        made.interchange.expire_bad_managers(set(), None)
        made.submit(1)
        made.interchange.process_tasks_to_send({b"late"}, None)
        assert (made.queued, made.sent) == ([1], [])
        assert made.takers == ["other"]


def test_other_questions_are_answered_as_ever(tmp_path: Path) -> None:
    with site(tmp_path) as made:
        assert made.ask("WORKER_BINDS") == made.interchange.worker_port
