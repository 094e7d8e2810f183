"""Messages that RabbitMQ will never accept, told apart from temporary trouble."""

import re
from dataclasses import dataclass

from pika.exceptions import ChannelClosedByBroker, ConnectionClosedByBroker

# Reply codes of AMQP 0-9-1, 1.2.2.
_TOO_LARGE = (311,)
_MALFORMED = (501, 502, 505)
_PRECONDITION_FAILED = 406
_SIZE = re.compile(r"\bsize\b|\blarge", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Refusal:
    """What RabbitMQ said of a message that it will never accept."""

    words: str
    """RabbitMQ's reason."""
    size: bool
    """The reason is the size of the message."""


def refusal(reason: BaseException) -> Refusal | None:
    """Read the reason for which a channel or a connection was closed.

    Returns:
        None unless it was a message that RabbitMQ will never accept. A missing exchange (404), a forbidden one (403)
        and a property that RabbitMQ rejects (406 without a word about a size) affect all messages alike, and somebody
        may correct them.
    """
    if not isinstance(reason, ChannelClosedByBroker | ConnectionClosedByBroker):
        return None
    code, text = int(reason.reply_code), str(reason.reply_text)
    if code in _TOO_LARGE or (code == _PRECONDITION_FAILED and _SIZE.search(text)):
        return Refusal(text, size=True)
    return Refusal(text, size=False) if code in _MALFORMED else None
