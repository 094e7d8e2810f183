"""What the console asks the broker, all of it with the rights of a reader."""

import time
from dataclasses import replace
from pathlib import Path

from twinlock_broker.commands.ask import ask
from twinlock_broker.console.history import History
from twinlock_broker.console.snapshot import Snapshot
from twinlock_broker.console.stream import Stream
from twinlock_broker.top.broker_link import LIMIT, PERIOD, BrokerLink
from twinlock_broker.top.picture import Picture

READERS = "only the accounts that `readers` in broker.yaml names may ask; the broker reads that key when it starts"
"""Whom the broker answers on that socket."""

UNWATCHED = 10.0
"""Seconds between two questions while nobody looks: for the plots alone, endpoints needn't tell their figures often."""


def look(path: Path) -> Picture:
    """Ask the broker whose readers' socket is at `path`. Raise `Fatal`. Blocks.

    The answer to `status` has those to `failures` and `starts` added, as `failures` and `start_figures`.
    """
    status = ask(path, {"request": "status"}, READERS, LIMIT)
    failures = ask(path, {"request": "failures"}, READERS, LIMIT)
    starts = ask(path, {"request": "starts"}, READERS, LIMIT)
    return Picture(status | failures | {"start_figures": starts}, time.monotonic())


async def follow(path: Path, history: History, stream: Stream) -> None:
    """Note in `history` what the broker says, and publish it to those who look, without end."""
    link = BrokerLink(path, look, lambda: PERIOD if stream.viewers else UNWATCHED)
    stream.arrived = link.hurry
    nothing = Picture({}, time.monotonic())

    def show(picture: Picture) -> None:
        if not picture.trouble:
            history.note(picture.answer)
        known = picture if picture.answer else None
        stream.publish(Snapshot(known, picture.trouble, history))

    link.hurry()
    await link.watch(replace(nothing, trouble="the broker wasn't asked yet"), show)
