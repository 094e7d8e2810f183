"""Nobody can fill the broker's log: neither by connecting, nor by what they submit."""

import io
import logging

import pytest
from twinlock_broker import logs
from twinlock_broker.logs import KeyValue, RationedHandler
from twinlock_broker.metrics import REGISTRY


def line(user: str, text: str, created: float) -> logging.LogRecord:
    """An event about a user."""
    values = {"name": "twinlock_broker.test", "levelname": "INFO", "msg": "said %s", "args": (text,), "user": user}
    return logging.makeLogRecord(values | {"created": created})


def lines_left_out() -> float:
    """How many lines were left out, by the metrics."""
    return REGISTRY.get_sample_value("twinlock_dropped_total", {"what": "log_lines"}) or 0


def test_what_one_user_causes_has_a_ration_of_lines_and_others_keep_theirs() -> None:
    stream = io.StringIO()
    handler = RationedHandler(stream)
    handler.setFormatter(KeyValue())
    before = lines_left_out()
    for number in range(1000):
        handler.handle(line("eve", str(number), 1000.0))
    assert lines_left_out() - before == 1000 - logs.MOST
    handler.handle(line("ada", "hello", 1001.0))
    lines = stream.getvalue().splitlines()
    assert len(lines) == logs.MOST + 1
    assert "user=ada" in lines[-1]
    handler.handle(line("ada", "bye", 1061.0))
    left_out, last = stream.getvalue().splitlines()[-2:]
    assert f"{1000 - logs.MOST} more such lines within a minute were left out, the last one: said 999" in left_out
    assert "user=eve" in left_out
    assert "said bye" in last


def test_a_crowd_of_users_shares_one_ration() -> None:
    stream = io.StringIO()
    handler = RationedHandler(stream)
    for number in range(10_000):
        handler.handle(line(f"user{number}", "hello", 1000.0))
    assert len(stream.getvalue().splitlines()) == logs.MOST_RATIONS + logs.MOST


@pytest.mark.parametrize("text", ["x" * 1_000_000, "x y" * 1_000_000, "\x1b[2J" * 1_000_000])
def test_a_line_has_a_length(text: str) -> None:
    shown = KeyValue().format(line("ada", text, 1000.0))
    assert len(shown) < 10 * logs.LONGEST
    assert shown.isprintable()


def test_the_last_lines_about_an_endpoint_are_kept_whatever_others_do() -> None:
    recent = logs.Recent()
    recent.setFormatter(KeyValue())
    about = line("ada", "hello", 1000.0)
    about.endpoint = "of-ada"
    recent.handle(about)
    for number in range(3 * logs.MOST_RECENT):
        flood = line("eve", f"{number} " + "x" * 2 * logs.LONGEST_RECENT, 1001.0)
        flood.endpoint = "of-eve"
        recent.handle(flood)
    (kept,) = recent.about("of-ada")
    assert 'event="said hello"' in kept
    others = recent.about("of-eve")
    assert len(others) == logs.MOST_RECENT - 1
    assert max(map(len, others)) == logs.LONGEST_RECENT
    assert f"said {3 * logs.MOST_RECENT - 1} " in others[-1]
