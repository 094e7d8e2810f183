"""pictures.py --prefix DIR: take the pictures in docs/pictures, from a site that runs meanwhile.

They are of `twinlock top` and, in a Chromium, of the console's page. As root, on a machine with RabbitMQ. The site is
the demonstration's, with three people: two have work, and what the third one asks for can't be started.
"""

import argparse
import asyncio
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import browser
import yaml
from textual.pilot import Pilot
from twinlock_broker.commands.ask import ask
from twinlock_broker.top.app import Top
from twinlock_broker.top.broker_link import look
from twinlock_testbed.daemons import Daemon
from twinlock_testbed.demo_site import Site, shared_site
from twinlock_testbed.progress import step
from twinlock_testbed.scripts import Script

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

READER = "nobody"
"""The account of the console."""

PAGES = {"console": ("/", 1400, False), "console-phone": ("/#/failures", 390, True)}
"""The pictures of the console's page: its address, the screen's width in pixels, and whether it is dark."""

SIZE = 130, 22
LIMIT = 120.0
"""Seconds for what a picture is to show."""

PLOTTED = 60.0
"""Seconds until the plots have something to show."""

_FONTS = re.compile(r"@font-face \{.*?\}", re.DOTALL)


def main() -> None:
    """Run the site, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prefix", type=Path, required=True, metavar="DIR", help="where Twinlock is installed")
    prefix = parser.parse_args().prefix
    FOLDER.mkdir(exist_ok=True)
    with shared_site(prefix, users=PEOPLE, readers=(READER,)) as site, working(site), console(site) as tab:
        admin = site.manager.runtime / "admin.sock"
        step("waiting for endpoints that are at work")
        wait_for(lambda: at_work(admin))
        asyncio.run(take(admin))
        asyncio.run(take_pages(*tab))


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


@contextmanager
def console(site: Site) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a console while the block runs; yield its address, and the headers of an administrator's requests."""
    folder = site.folder / "console"
    folder.mkdir()
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(secrets.token_hex())
    shutil.chown(secret, READER)
    address = f"127.0.0.1:{_free_port()}"
    settings = {"listen": address, "proxy_secret_file": str(secret), "hosts": ["127.0.0.1"], "history": 1}
    settings |= {"broker_socket": str(site.manager.runtime / "readers.sock"), "administrators": [PEOPLE[0]]}
    config = folder / "console.yaml"
    config.write_text(yaml.safe_dump(settings))
    argv: list[str | Path] = [site.prefix / "bin/twinlock-console", "--config", config]
    daemon = Daemon("twinlock-console", argv, folder / "log", user=READER)
    try:
        daemon.wait_for_line("ready", LIMIT)
        yield address, {"X-Remote-User": PEOPLE[0], "X-Twinlock-Secret": secret.read_text()}
    finally:
        daemon.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


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


async def take_pages(address: str, headers: dict[str, str]) -> None:
    """Take the pictures of the console's page, when it has been there for long enough for its plots."""
    points = "document.querySelectorAll('.plot canvas').length == 4"
    with browser.running() as devtools:
        async with browser.tab(devtools, headers) as tab:
            await asyncio.sleep(PLOTTED)
            for name, (page, width, dark) in PAGES.items():
                await tab.go("about:blank", width)
                await tab.go(f"http://{address}{page}", width, dark=dark)
                await tab.until("document.body.innerText.includes('turing')" if "failures" in page else points)
                await asyncio.sleep(SECONDS)
                write_page(await tab.picture(), name)


async def seen(pilot: Pilot[int], words: str) -> None:
    """Wait until the words are on the screen. Raise `TimeoutError`, with what is there in their place."""
    end = time.monotonic() + LIMIT
    while words not in (shown := screen(pilot.app.export_screenshot())):
        if time.monotonic() > end:
            raise TimeoutError(f"{words!r} doesn't come; the screen has: {shown}")
        await pilot.pause(0.2)


def write_page(picture: bytes, name: str) -> None:
    """Write a picture of the console's page."""
    (FOLDER / f"{name}.png").write_bytes(picture)
    step(f"docs/pictures/{name}.png")


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
