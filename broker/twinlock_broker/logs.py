"""The broker's log: stderr, one line an event, in key=value pairs that people and programs can read.

``time= level= logger= [endpoint=] [user=] [error_id=] event= [traceback=]``. A value that isn't one plain word is
quoted as in JSON, so that no text of a command can start a line of its own, make up a pair, or drive a terminal.
"""

import json
import logging
import re
import sys
import time

FIELDS = ("endpoint", "user", "error_id")
"""What an event may be about, given to the logger as `extra`."""

_PLAIN = re.compile(r"[A-Za-z0-9_.:@/+-]+")


class KeyValue(logging.Formatter):
    """An event as a line of pairs."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
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


def _quoted(value: str) -> str:
    return value if _PLAIN.fullmatch(value) else json.dumps(value)


def set_up(debug: bool) -> None:
    """Log to stderr; `debug` shows our own details. The libraries' loggers tell of every retry and are kept quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValue())
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("twinlock_broker").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("pika").setLevel(logging.CRITICAL)
