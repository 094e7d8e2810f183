"""The broker's log: stderr, one line for each event, in key=value pairs that people and programs can read.

``time= level= logger= [endpoint=] [user=] [command=] [mode=] [error_id=] event= [traceback=]``. A value that isn't one
plain word is quoted as in JSON, so that no text of others can start a line of its own, make up a pair, or drive a
terminal.

Nor can anybody fill the disk with it: a value has a length limit, and so has the number of lines about one user that
say the same.
"""

import contextlib
import json
import logging
import re
import sys
import time
from collections import Counter
from typing import TextIO

from twinlock_common.log_ration import MINUTE

from twinlock_broker import metrics
from twinlock_broker.fair_ring import FairRing

FIELDS = ("endpoint", "user", "command", "mode", "error_id")
"""What an event may be about, given to the logger as `extra`."""

WHO = ("user", "endpoint")
"""Against whose ration of lines an event counts: the first of these that it has."""

MOST = 60
"""Lines a minute that one place in the code logs about one user."""

MOST_RATIONS = 1000
"""Pairs of a user and a place in the code that have rations of their own within a minute; at each place further users
share one.
"""

MOST_RECENT = 400
"""Lines that are kept in memory, for `twinlock top`."""

LONGEST_RECENT = 1000
"""Characters of such a line."""

LONGEST = 16384
"""Characters of a value, a traceback for example."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:@/+-]+")


class KeyValue(logging.Formatter):
    """A formatter that makes a line of pairs of each event."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        pairs = {
            "time": f"{moment}.{int(record.msecs):03}Z",
            "level": record.levelname,
            "logger": record.name.removeprefix("twinlock_broker."),
        }
        pairs |= {name: str(getattr(record, name)) for name in FIELDS if hasattr(record, name)}
        pairs["event"] = record.getMessage()
        if record.exc_info:
            pairs["traceback"] = self.formatException(record.exc_info)
        return " ".join(f"{name}={_quoted(value)}" for name, value in pairs.items())


class RationedHandler(logging.StreamHandler[TextIO]):
    """A handler that limits lines to `MOST` a minute for each user and place in the code.

    After the minute it logs how many it left out.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._since = 0.0
        self._written: Counter[tuple[str, str, str]] = Counter()
        self._left_out: dict[tuple[str, str, str], str] = {}  # the last one of each

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line, unless it is one too many."""
        if not self._since <= record.created < self._since + MINUTE:
            self._begin(record.created)
        key = self._key(record)
        self._written[key] += 1
        if self._written[key] <= MOST:
            super().emit(record)
        else:
            self._left_out[key] = record.getMessage()
            metrics.DROPPED_LOG_LINES.inc()

    def _key(self, record: logging.LogRecord) -> tuple[str, str, str]:
        about = next((str(getattr(record, name)) for name in WHO if hasattr(record, name)), "")
        key = record.name, str(record.msg), about
        return key if key in self._written or len(self._written) < MOST_RATIONS else (*key[:2], "others")

    def _begin(self, now: float) -> None:
        """Begin another minute, and log what the last one left out."""
        written, left_out = self._written, self._left_out
        self._since, self._written, self._left_out = now, Counter(), {}
        for key, last in left_out.items():
            logger, _, about = key
            said = f"{written[key] - MOST} more such lines within a minute were left out, the last one: {last}"
            values = {"name": logger, "levelname": "WARNING", "msg": "%s", "args": (said,)}
            super().emit(logging.makeLogRecord(values | ({"user": about} if about else {})))


class Recent(logging.Handler):
    """The last lines, kept in memory. No user's can push out all others'."""

    def __init__(self) -> None:
        super().__init__()
        self._lines: FairRing[tuple[str, str]] = FairRing(MOST_RECENT)

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the line."""
        line = self.format(record)[:LONGEST_RECENT]
        self._lines.add(str(getattr(record, "user", "")), (str(getattr(record, "endpoint", "")), line))

    def about(self, endpoint_id: str) -> list[str]:
        """Return the lines about an endpoint, the oldest first."""
        with self.lock or contextlib.nullcontext():
            return [line for endpoint, line in self._lines if endpoint == endpoint_id]


def _quoted(value: str) -> str:
    value = value if len(value) <= LONGEST else f"{value[:LONGEST]}… ({len(value)} characters)"
    return value if _PLAIN.fullmatch(value) else json.dumps(value)


def set_up(debug: bool) -> Recent:
    """Log to stderr, and return the last lines; `debug` shows our own details.

    The libraries' loggers, which report every retry, are kept quiet.
    """
    handler, recent = RationedHandler(sys.stderr), Recent()
    for each in (handler, recent):
        each.setFormatter(KeyValue())
    logging.basicConfig(handlers=[handler, recent], level=logging.WARNING, force=True)
    logging.getLogger("twinlock_broker").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    return recent
