"""The broker's log: stderr, one line an event, whatever stands in the event."""

import logging
import sys

_UNPRINTABLE = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0))} | {
    0x0A: "\\n",
    0x2028: "\\u2028",
    0x2029: "\\u2029",
}


class OneLine(logging.Formatter):
    """Escapes control characters, so that no text of a command can start a line of its own or drive a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The event as one line, traceback included."""
        return super().format(record).translate(_UNPRINTABLE)


def set_up(debug: bool) -> None:
    """Log to stderr; `debug` shows our own details. The libraries' loggers tell of every retry and are kept quiet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("twinlock_broker").setLevel(logging.DEBUG if debug else logging.INFO)
    logging.getLogger("pika").setLevel(logging.CRITICAL)
