"""How texts that tasks, schedulers and nodes make are kept short."""

import json
import os
import sys
import traceback
import uuid
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from globus_compute_common.messagepack import unpack
from pika.spec import BasicProperties
from twinlock_common.amqp.consumer import Message
from twinlock_endpoint.manager import status
from twinlock_endpoint.queues import deliveries
from twinlock_endpoint.tasks import results
from twinlock_endpoint.worker import texts


def told(function: Callable[[], None], limit: int = texts.LIMIT) -> tuple[str, BaseException]:
    """What is told of the exception that the function raises, and that."""
    try:
        function()
    except BaseException as error:
        return texts.describe(error, error.__traceback__, limit), error
    raise AssertionError("unreachable")


def usual() -> None:
    try:
        os.environ["NO_SUCH_VARIABLE"]
    except KeyError as error:
        error.add_note("a note")
        raise ValueError("because") from error


def grouped() -> None:
    raise ExceptionGroup("both", [ValueError("one"), TypeError("other")])


def mistyped() -> None:
    compile("x = = 1", "there.py", "exec")


@pytest.mark.parametrize("function", [usual, grouped, mistyped])
def test_what_is_short_is_told_as_python_does(function: Callable[[], None]) -> None:
    text, error = told(function)
    assert text == "".join(traceback.format_exception(error))


def test_a_cut_text_says_what_is_missing() -> None:
    text = texts.cut("a" * 600 + "b" * 900, 1000)
    assert text.startswith("a" * 500 + "\n")
    assert text.endswith("\n" + "b" * 500)
    assert "500 characters left out" in text
    assert texts.cut("a" * 1000, 1000) == "a" * 1000


def test_an_exception_with_a_large_text_is_not_copied() -> None:
    size = 100_000_000

    def shout() -> None:
        raise ValueError("w" * size)

    before = psutil.Process().memory_info().rss
    text, _ = told(shout)
    assert "ValueError: wwww" in text
    assert "in shout" in text
    assert len(text) <= texts.LIMIT
    assert psutil.Process().memory_info().rss - before < 1.5 * size


def test_a_chain_of_thousands() -> None:
    def chain() -> None:
        error: Exception | None = None
        for number in range(5000):
            following = ValueError(f"number {number}")
            following.__cause__ = error
            error = following
        assert error is not None
        raise error

    text, _ = told(chain)
    assert "number 0\n" in text
    assert "number 4999\n" in text
    assert "4,992 exceptions left out" in text
    assert "The above exception was the direct cause" in text


def test_a_group_of_thousands() -> None:
    def fail() -> None:
        raise ExceptionGroup("many", [ValueError(f"number {number}") for number in range(5000)])

    text, _ = told(fail)
    assert "number 0\n" in text
    assert "4,990 exceptions left out" in text


def test_a_deep_traceback() -> None:
    def first(depth: int) -> None:
        second(depth - 1) if depth else 1 / 0

    def second(depth: int) -> None:
        first(depth)

    former = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        text, _ = told(lambda: first(2000))
    finally:
        sys.setrecursionlimit(former)
    assert "frames left out" in text
    assert text.endswith("ZeroDivisionError: division by zero\n")
    assert len(text) < 20_000


def test_notes_without_end() -> None:
    def noted() -> None:
        error = ValueError("short")
        for _ in range(1000):
            error.add_note("n" * 1000)
        raise error

    text, _ = told(noted)
    assert "ValueError: short\nnnn" in text
    assert len(text) < texts.LIMIT


def test_a_heartbeat_of_a_site_with_thousands_of_nodes() -> None:
    node = {"worker_count": 128, "idle_duration": 0.5, "parsl_version": "2026.1.1", "python_version": "3.11.2"}
    figures = {"managers": 20_000, "node_info": {"17": [node] * 20_000}, "outstanding_tasks": 3}
    packed = status.report(str(uuid.uuid4()), {"config_raw": "engine: {}", "posix_uid": 1000}, figures, 30)
    state = unpack(packed).global_state
    assert len(packed) <= status.LARGEST
    assert (state["managers"], state["outstanding_tasks"], state["posix_uid"]) == (20_000, 3, 1000)
    small = status.report(str(uuid.uuid4()), {}, {"node_info": {"17": [node]}}, 30)
    assert unpack(small).global_state["node_info"] == {"17": [node]}


def test_an_answer_about_lost_workers_is_as_short() -> None:
    class Untold(Exception):
        def __str__(self) -> str:
            raise OSError

    failures = [ValueError("w" * 1_000_000), *[Untold()] * 500, RuntimeError("last words")]
    result = unpack(results.lost(str(uuid.uuid4()), failures, "h" * 1_000_000))
    assert len(result.data) < 1.1 * texts.LIMIT
    assert result.data.startswith("Attempt 1 of 502:\nValueError: www")
    assert "Failed to start task: <Untold" in unpack(results.not_started(str(uuid.uuid4()), Untold())).data


def test_a_task_whose_function_has_a_long_id() -> None:
    acks: Any = None
    properties = BasicProperties(headers={"function_uuid": "f" * 1_000_000})
    assert len(deliveries.task("id", Message(acks, 1, b"\x01{}", properties)).function_id) < 200


class Broken(Exception):
    def __str__(self) -> str:
        raise KeyboardInterrupt


class Hidden(Exception):
    def __getattribute__(self, name: str) -> object:
        if name == "__notes__":
            raise OSError("no notes")
        return super().__getattribute__(name)


class Leaving(Exception):
    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise SystemExit


class Nameless(type):
    def __getattribute__(cls, name: str) -> object:
        if name == "__module__":
            raise GeneratorExit
        return super().__getattribute__(name)


class OfNamelessType(Exception, metaclass=Nameless):
    pass


class Text(str):
    def __len__(self) -> int:
        raise KeyboardInterrupt

    def __format__(self, form: str) -> str:
        raise KeyboardInterrupt


class Textual(Exception):
    def __str__(self) -> str:
        return Text("x")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Broken", Broken),
        ("Hidden", Hidden),
        ("Leaving", Leaving),
        ("OfNamelessType", OfNamelessType),
        ("Textual: x", Textual),
    ],
)
def test_exceptions_whose_own_code_fails(name: str, kind: type[Exception]) -> None:
    def fail() -> None:
        raise kind("x")

    try:
        text, _ = told(fail)
    except BaseException as escaped:  # pytest can't format it either
        text = f"{type(escaped)} escaped"
    assert name in text
    assert "in fail\n" in text


@pytest.mark.parametrize("text", ["x" * 1000, '"' * 1000, "é" * 1000, "\N{GRINNING FACE}" * 1000, "\\" * 1000])
def test_the_size_in_a_message_is_what_counts(text: str) -> None:
    size = len(json.dumps({"data": text}).encode()) - len(json.dumps({"data": ""}))
    assert texts.too_long(text, size) == 0
    assert texts.too_long(text, size - 1) == size
