"""The failures of a connection to RabbitMQ, and of a message."""


class LinkError(Exception):
    """The connection couldn't be made, has ended, or didn't take a message. The text holds no credentials."""


class LinkRefused(LinkError):
    """RabbitMQ doesn't accept the credentials, or no longer accepts them."""


class NotTaken(LinkError):
    """There is no queue for the message, or the queue is full."""


class Suspect(LinkError):
    """RabbitMQ closed the connection over one of the messages that weren't confirmed yet; the text is RabbitMQ's."""


class RefusedMessageError(Exception):
    """RabbitMQ will never accept this message."""

    def __init__(self, size: int, words: str) -> None:
        super().__init__(f"RabbitMQ refuses a message of {size:,} bytes: {words}")
        self.size = size
        """Of the message, in bytes."""
        self.words = words
        """RabbitMQ's reason."""
