"""The acknowledgements of one channel; those of one turn of the loop are sent together."""

import asyncio

from pika.channel import Channel


class Acks:
    """The deliveries to acknowledge.

    One `basic.ack` is sent for all up to the last before which none is open, and one each for the others.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._next = 1  # the first that isn't settled; a channel counts its deliveries from 1
        self._settled: set[int] = set()
        self._new: list[int] = []

    def add(self, tag: int) -> None:
        """Acknowledge this delivery before long."""
        self._settled.add(tag)
        self._new.append(tag)
        if len(self._new) == 1:
            asyncio.get_running_loop().call_soon(self._flush)

    def reject(self, tag: int, *, requeue: bool) -> None:
        """Refuse this delivery, at once."""
        self._settled.add(tag)
        self._channel.basic_reject(tag, requeue=requeue)

    def _flush(self) -> None:
        new, self._new = sorted(self._new), []
        while self._next in self._settled:
            self._settled.remove(self._next)
            self._next += 1
        if not self._channel.is_open:
            return
        # RabbitMQ closes the channel over a tag that was settled before, so the last new one stands for all up to it.
        together = [tag for tag in new if tag < self._next]
        if together:
            self._channel.basic_ack(together[-1], multiple=True)
        for tag in new[len(together) :]:
            self._channel.basic_ack(tag)
