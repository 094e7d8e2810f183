"""pictures.py --prefix DIR: take the pictures in docs/pictures, from a site that runs meanwhile.

They are of `twinlock top`, of the console's page in a Chromium, and of the dashboard's panels with what a Prometheus
has of the site. As root, on a machine with RabbitMQ, Chromium and Prometheus. The site is the demonstration's, with
three people: two have work, and what the third one asks for can't be started.
"""

import argparse
import asyncio
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from console_pictures import READER, console, take_pages
from drawn_dashboard import draw
from textual.pilot import Pilot
from twinlock_broker.commands.ask import ask
from twinlock_broker.top.app import Top
from twinlock_broker.top.broker_link import look
from twinlock_testbed.demo_site import Site, shared_site
from twinlock_testbed.progress import step
from twinlock_testbed.scripts import Script
from watching import free_port, watching

FOLDER = Path(__file__).parents[1] / "pictures"
PEOPLE = ("lovelace", "hopper", "turing")
WORK = {
    "lovelace": [{"account_id": "climate"}, {"account_id": "ocean"}],
    "hopper": [{"account_id": "compilers"}],
    "turing": [{"account": "enigma"}],  # the template wants an account_id
}
"""What each of them asks for: an endpoint for each configuration."""

ENDPOINTS = 3
"""How many of these run."""

TASKS, SECONDS = 40, 5.0
"""Of each configuration, and how long each takes."""

SIZE = 130, 22
LIMIT = 120.0
"""Seconds for what a picture is to show."""

ROWS = {"Starts": "dashboard-starts.svg", "Tasks and workers": "dashboard-tasks.svg"}
"""The dashboard's rows of which there are pictures. The others of a site that is well show little."""

WATCHED = 90.0
"""Seconds of work that plots show."""

_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def main() -> None:
    """Run the site, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True, metavar="DIR", help="where Twinlock is installed")
    prefix = parser.parse_args().prefix
    FOLDER.mkdir(exist_ok=True)
    port, target = free_port(), f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        site = stack.enter_context(shared_site(prefix, users=PEOPLE, settings={"readers": [READER], "metrics": target}))
        prometheus = stack.enter_context(watching(site.folder, port, target))
        stack.enter_context(working(site))
        address, headers = stack.enter_context(console(site, PEOPLE[0]))
        admin = site.manager.runtime / "admin.sock"
        step("waiting for endpoints that are at work")
        wait_for(lambda: at_work(admin))
        asyncio.run(take(admin))
        step(f"watching for {WATCHED:.0f} s")
        time.sleep(WATCHED)
        asyncio.run(take_pages(address, headers, FOLDER))
        draw(prometheus.ask, {title: FOLDER / name for title, name in ROWS.items()})
        step(f"docs/pictures: {', '.join(ROWS.values())}")


@contextmanager
def working(site: Site) -> Iterator[None]:
    """Have everybody's tasks submitted while the block runs."""
    with ExitStack() as stack:
        for person, name in zip(site.people, PEOPLE, strict=True):
            script = Script(
                site.prefix,
                person,
                site.manager.endpoint_id,
                WORK[name],
                folder=site.folder,
                tasks=TASKS,
                seconds=SECONDS,
                user=site.script_user,
            )
            stack.callback(script.stop)
        yield


def at_work(admin: Path) -> bool:
    """Return whether all endpoints have run some tasks, and the failure of the third person has come."""
    rows = ask(admin, {"request": "status"})["endpoints"]
    done = [row["figures"].get("done_tasks", 0) for row in rows if row.get("figures")]
    return len(done) == ENDPOINTS and min(done) >= 2 and bool(ask(admin, {"request": "failures"})["failures"])


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until it holds. Raise `TimeoutError`."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the site doesn't get to what the pictures are to show")
        time.sleep(0.5)


async def take(admin: Path) -> None:
    """Take the pictures: the table, an endpoint's log, and why the third person's start failed."""
    os.environ["COLUMNS"] = str(SIZE[0])  # where there is no terminal, texts are wrapped by this
    app = Top(admin, look(admin))
    async with app.run_test(size=SIZE) as pilot:
        await seen(pilot, "hopper")
        write(app, "top")
        await pilot.press("enter")
        await seen(pilot, "Tasks are consumed")
        write(app, "top-log")
        await pilot.press("escape", "f")
        await seen(pilot, "turing")
        write(app, "top-failures")


async def seen(pilot: Pilot[int], words: str) -> None:
    """Wait until the words are on the screen. Raise `TimeoutError`, with what is there in their place."""
    end = time.monotonic() + LIMIT
    while words not in (shown := screen(pilot.app.export_screenshot())):
        if time.monotonic() > end:
            raise TimeoutError(f"{words!r} doesn't come; the screen has: {shown}")
        await pilot.pause(0.2)


def screen(picture: str) -> str:
    """Return the words in a picture."""
    return " ".join(re.findall(r">([^<>]+)</text>", picture)).replace("&#160;", " ")


def write(app: Top, name: str) -> None:
    """Write a picture of the screen, which loads no fonts from elsewhere."""
    picture = _FONTS.sub("", app.export_screenshot(title="twinlock top"))
    (FOLDER / f"{name}.svg").write_text(picture)
    step(f"docs/pictures/{name}.svg")


if __name__ == "__main__":
    main()
