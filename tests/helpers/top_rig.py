"""`twinlock top` in the test's own process, and rows as a broker has them."""

import html
import re
from collections.abc import Callable
from typing import Any

from broker_rig import MANAGER
from textual.pilot import Pilot
from twinlock_broker.top.app import Top

LIMIT = 60.0
"""Seconds for what a picture is to show."""


def row(number: int, user: str = "ada", **changes: Any) -> dict[str, Any]:
    """An endpoint's row of the broker's answer."""
    plain = {"state": "running", "mode": "plain", "signed": None, "pid": 40 + number, "seconds": 60 * number}
    more: dict[str, Any] = {"restart_waits": False, "figures": None, "condition": "", "options": "", "jobs": []}
    return {"id": f"{number:08x}-0000-4000-8000-000000000001", "user": user} | plain | more | changes


def answer(*rows: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A broker's answer to `status`."""
    about = {"endpoint": MANAGER, "name": "cluster", "started": 0, "version": "9.9", "spawner_connected": True}
    rest = {"amqp": {"commands": True, "heartbeats": False}, "starts": {"waiting": 0}, "drain": None, "blocked": {}}
    return about | rest | {"endpoints": list(rows)} | changes


def screen(app: Top) -> str:
    """The words on the screen, whatever their lines and boxes."""
    picture = app.export_screenshot()
    lines: dict[str, str] = {}
    for place, text in re.findall(r'<text [^>]*?y="([\d.]+)"[^>]*>(.*?)</text>', picture):
        lines[place] = lines.get(place, "") + html.unescape(text).replace("\xa0", " ")
    return " ".join(" ".join(lines.values()).replace("|", " ").split())


async def until(pilot: Pilot[int], shown: Callable[[str], bool]) -> str:
    """What is on the screen, as soon as it is as `shown` wants it."""
    for _ in range(round(LIMIT / 0.05)):
        await pilot.pause(0.05)
        seen = screen(pilot.app)  # type: ignore[arg-type]
        if shown(seen):
            return seen
    raise AssertionError(f"not within {LIMIT:.0f} s:\n{seen}")


async def keys(pilot: Pilot[int], *names: str) -> None:
    """Keys that are pressed, each when the one before has had its effect."""
    for name in names:
        await pilot.press(name)
        await pilot.pause()
