"""When tasks are acknowledged."""

from typing import Any

from twinlock_endpoint.consumer import Delivery
from twinlock_endpoint.ledger import Ledger

CHANNEL: Any = object()


def delivery(tag: int) -> Delivery:
    return Delivery(CHANNEL, tag, {}, b"")


def ledger(prefetch: int = 2) -> tuple[Ledger, list[int]]:
    tags: list[int] = []
    return Ledger(lambda acknowledged: tags.append(acknowledged.tag), prefetch), tags


def test_acknowledged_when_the_result_is_safe_and_not_before() -> None:
    book, tags = ledger()
    assert book.receive("a", delivery(1))
    assert book.answer("a")
    assert tags == []
    book.settle("a")
    assert (tags, len(book)) == ([1], 0)


def test_a_task_that_comes_again_is_not_run_again_and_its_fresh_delivery_counts() -> None:
    book, tags = ledger()
    book.receive("a", delivery(1))
    assert not book.receive("a", delivery(9))
    book.answer("a")
    book.settle("a")
    assert (tags, book.received) == ([9], 1)


def test_one_answer_a_task() -> None:
    book, _ = ledger()
    book.receive("a", delivery(1))
    assert [book.answer("a"), book.answer("a"), book.answer("b")] == [True, False, False]


def test_an_acknowledgement_that_was_lost_is_given_again() -> None:
    book, tags = ledger()
    book.receive("a", delivery(1))
    book.answer("a")
    book.settle("a")
    assert not book.receive("a", delivery(5))
    assert tags == [1, 5]


def test_only_as_many_settled_tasks_are_remembered_as_can_come_again() -> None:
    book, _ = ledger(prefetch=2)
    for number, task in enumerate("abc"):
        book.receive(task, delivery(number))
        book.answer(task)
        book.settle(task)
    assert [book.receive(task, delivery(9)) for task in "abc"] == [True, False, False]


def test_unanswered_tasks() -> None:
    book, _ = ledger()
    book.receive("a", delivery(1))
    book.receive("b", delivery(2))
    book.answer("a")
    assert book.unanswered() == ["b"]
