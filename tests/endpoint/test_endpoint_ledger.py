"""When tasks are acknowledged, and what the journal is told."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from endpoint_rig import LIMIT_S
from twinlock_common.amqp.consumer import Message
from twinlock_common.amqp.errors import RefusedMessageError
from twinlock_endpoint.journal import journal
from twinlock_endpoint.journal.journal import Journal
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks.entry import Entry, Interrupted
from twinlock_endpoint.tasks.ledger import Events, Ledger
from twinlock_endpoint.tasks.outcomes import Outcome


class Tags:
    """Acknowledgements, as they come."""

    def __init__(self) -> None:
        self.settled: list[int] = []

    def add(self, tag: int) -> None:
        """This delivery is acknowledged."""
        self.settled.append(tag)


class Desk:
    """A ledger on a real journal; the test confirms what was published."""

    def __init__(self, folder: Path, prefetch: int = 2) -> None:
        self.acks: Any = Tags()
        self.published: list[tuple[bytes, asyncio.Future[None]]] = []
        self.kept: list[int] = []
        self.entries: dict[str, Entry] = {}
        self.settling: asyncio.Task[None]
        self.journal = Journal(journal.read(folder))
        events = Events(kept=self.kept.append)
        self.ledger = Ledger(self.journal, self._publish, prefetch, events)

    def _publish(self, body: bytes) -> asyncio.Future[None]:
        self.published.append((body, asyncio.get_running_loop().create_future()))
        return self.published[-1][1]

    @property
    def tags(self) -> list[int]:
        """The deliveries that were acknowledged."""
        return list(self.acks.settled)

    def delivery(self, tag: int) -> Message:
        """A delivery of the queue."""
        return Message(self.acks, tag, b"")

    def enter(self, task_id: str, tag: int) -> Entry:
        """A task is delivered."""
        self.entries[task_id] = self.ledger.enter(task_id, self.delivery(tag))
        return self.entries[task_id]

    async def take(self, task_id: str, tag: int) -> None:
        """A task is delivered, and the journal has it. OSError where it can't."""
        entry = self.enter(task_id, tag)
        async with asyncio.timeout(LIMIT_S):
            await self.ledger.store(entry, Task(task_id, "f", b"\x01{}"), 1)

    async def answer(self, task_id: str) -> None:
        """A task has a result, which is published."""
        published = len(self.published)
        self.settling = asyncio.create_task(self.ledger.settle(self.entries[task_id], task_id.encode()))
        await self.sent(published + 1)

    async def sent(self, count: int) -> None:
        """Wait until so many results are published."""
        async with asyncio.timeout(LIMIT_S):
            while len(self.published) < count:
                await asyncio.sleep(0)

    async def refuse(self, more: bool = True) -> None:
        """RabbitMQ will never accept the last result; wait for the next one, if there is to be any."""
        published = len(self.published)
        self.published[-1][1].set_exception(RefusedMessageError(9, "RabbitMQ says no"))
        await (self.sent(published + 1) if more else self.settling)

    async def confirm(self) -> None:
        """RabbitMQ has the last result."""
        self.published[-1][1].set_result(None)
        await self.settling


@pytest_asyncio.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk, closed in the end."""
    made = Desk(tmp_path)
    yield made
    await made.journal.close(LIMIT_S)


async def test_acknowledged_when_the_journal_has_it(desk: Desk, tmp_path: Path) -> None:
    await desk.take("a", 1)
    assert (desk.tags, desk.kept) == ([1], [1])
    assert list(journal.read(tmp_path).unfinished) == ["a"]


async def test_out_of_the_journal_when_its_answer_is_confirmed(desk: Desk, tmp_path: Path) -> None:
    await desk.take("a", 1)
    await desk.answer("a")
    assert journal.read(tmp_path).unfinished["a"].result == b"a"
    await desk.confirm()
    await desk.journal.close(LIMIT_S)
    assert not journal.read(tmp_path).unfinished
    assert (len(desk.ledger), desk.ledger.settled, desk.kept, desk.tags) == (0, 1, [1, 0], [1])


async def test_a_task_that_comes_again_is_not_taken_again(desk: Desk) -> None:
    desk.enter("a", 1)
    assert desk.ledger.again("a", desk.delivery(9)), "before the journal has it"
    await desk.answer("a")
    assert desk.tags == [9]
    assert desk.ledger.again("a", desk.delivery(10)), "while its answer is on its way"
    await desk.confirm()
    assert desk.ledger.again("a", desk.delivery(11)), "when it is done"
    assert (desk.tags, desk.ledger.received) == ([9, 10, 11], 1)
    assert not desk.ledger.again("b", desk.delivery(12))


async def test_results_are_sealed_and_so_is_what_takes_the_place_of_one(desk: Desk, tmp_path: Path) -> None:
    async def seal(result: bytes) -> bytes:
        return b"sealed " + result

    await desk.take("a", 1)
    desk.entries["a"].seal = seal
    await desk.answer("a")
    assert journal.read(tmp_path).unfinished["a"].result == b"sealed a"
    await desk.refuse()
    assert [body.partition(b"{")[0] for body, _ in desk.published] == [b"sealed a", b"sealed \x01"]
    await desk.confirm()


async def test_a_task_that_a_predecessor_has_answered_is_acknowledged_and_gets_no_answer(desk: Desk) -> None:
    desk.ledger.drop(desk.enter("a", 1))
    assert (desk.tags, desk.published, len(desk.ledger), desk.ledger.without_result) == ([1], [], 0, 0)
    assert desk.ledger.again("a", desk.delivery(2))


async def test_only_as_many_done_tasks_are_remembered_as_can_come_again(desk: Desk) -> None:
    for number, task in enumerate("abc"):
        await desk.take(task, number)
        await desk.answer(task)
        await desk.confirm()
    assert [desk.ledger.again(task, desk.delivery(9)) for task in "abc"] == [False, True, True]


async def test_a_done_task_is_known_to_the_next_endpoint(desk: Desk, tmp_path: Path) -> None:
    await desk.take("a", 1)
    await desk.answer("a")
    await desk.confirm()
    await desk.journal.close(LIMIT_S)
    following = Desk(tmp_path)
    assert following.ledger.again("a", following.delivery(2))
    await following.journal.close(LIMIT_S)


async def test_an_answer_that_is_refused_is_replaced(desk: Desk, tmp_path: Path) -> None:
    await desk.take("a", 1)
    await desk.answer("a")
    await desk.refuse()
    short = desk.published[-1][0]
    assert b"MaxResultSizeExceeded" in short
    assert b"says no" in short
    assert journal.read(tmp_path).unfinished["a"].result == short
    await desk.confirm()
    await desk.journal.close(LIMIT_S)
    assert not journal.read(tmp_path).unfinished
    assert desk.ledger.figures() == {"unsent_results": 0, "refused_results": 1, "dropped_results": 0}


async def test_a_task_whose_short_answer_is_refused_is_dropped(desk: Desk, tmp_path: Path) -> None:
    for number, task in enumerate("ab", start=1):
        await desk.take(task, number)
        await desk.answer(task)
        await desk.refuse()
        await desk.refuse(more=False)
    await desk.journal.close(LIMIT_S)
    assert not journal.read(tmp_path).unfinished
    assert (len(desk.ledger), desk.kept[-1], len(desk.published)) == (0, 0, 4)
    assert desk.ledger.figures() == {"unsent_results": 0, "refused_results": 2, "dropped_results": 2}


async def test_what_the_endpoint_decides_ends_a_tasks_wait_now_or_next(desk: Desk) -> None:
    entry = desk.enter("a", 1)
    waiting = asyncio.create_task(entry.wait(asyncio.get_running_loop().create_future()))
    await asyncio.sleep(0)
    outcome = Outcome(b"the engine failed", "FAILED")
    entry.interrupt(outcome)
    with pytest.raises(Interrupted) as now:
        await waiting
    with pytest.raises(Interrupted) as then:
        await entry.wait(asyncio.get_running_loop().create_future())
    assert (now.value.outcome, then.value.outcome) == (outcome, outcome)


async def test_what_the_endpoint_decides_comes_before_what_has_just_happened(desk: Desk) -> None:
    entry = desk.enter("a", 1)
    happened: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(entry.wait(happened))
    await asyncio.sleep(0)
    happened.set_result(7)
    entry.interrupt(None)
    with pytest.raises(Interrupted) as told:
        await waiting
    assert told.value.outcome is None


async def test_a_task_that_is_only_answered_is_acknowledged_with_its_answer(desk: Desk) -> None:
    desk.enter("a", 1)
    assert desk.tags == []
    await desk.answer("a")
    assert desk.tags == [1]


async def test_tasks_without_a_result(desk: Desk) -> None:
    await desk.take("a", 1)
    await desk.take("b", 2)
    await desk.answer("a")
    assert [entry.id for entry in desk.ledger.unfinished()] == ["b"]
    assert (desk.ledger.without_result, len(desk.ledger)) == (1, 2)


async def test_what_the_disk_doesnt_take_stays_with_the_queue_until_its_answer_is_confirmed(tmp_path: Path) -> None:
    desk = Desk(tmp_path)
    (tmp_path / "journal").rmdir()
    with pytest.raises(OSError, match="No such file"):
        await desk.take("a", 1)
    await desk.answer("a")
    assert (desk.tags, desk.kept) == ([], [])
    await desk.confirm()
    assert desk.tags == [1]
    (tmp_path / "journal").mkdir()
    await desk.take("b", 2)  # it goes on
    await desk.journal.close(LIMIT_S)
