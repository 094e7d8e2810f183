"""A console beside the site whose pictures are taken, and pictures of its page in a Chromium."""

import asyncio
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import browser
import yaml
from twinlock_testbed.daemons import Daemon
from twinlock_testbed.demo_site import Site
from twinlock_testbed.progress import step
from watching import free_port

READER = "nobody"
"""The account of the console."""

PAGES = {"console": ("/", 1400, False), "console-phone": ("/#/failures", 390, True)}
"""The pictures of the console's page: its address, the screen's width in pixels, and whether it is dark."""

_LIMIT = 120.0  # seconds for it to start
_CALM = 5.0  # seconds for the page to have all that comes


@contextmanager
def console(site: Site, administrator: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a console while the block runs; yield its address, and the headers of an administrator's requests."""
    folder = site.folder / "console"
    folder.mkdir()
    secret = folder / "secret"
    secret.touch(0o600)
    secret.write_text(secrets.token_hex())
    shutil.chown(secret, READER)
    address = f"127.0.0.1:{free_port()}"
    settings = {"listen": address, "proxy_secret_file": str(secret), "hosts": ["127.0.0.1"], "history": 1}
    settings |= {"broker_socket": str(site.manager.runtime / "readers.sock"), "administrators": [administrator]}
    config = folder / "console.yaml"
    config.write_text(yaml.safe_dump(settings))
    argv: list[str | Path] = [site.prefix / "bin/twinlock-console", "--config", config]
    daemon = Daemon("twinlock-console", argv, folder / "log", user=READER)
    try:
        daemon.wait_for_line("ready", _LIMIT)
        yield address, {"X-Remote-User": administrator, "X-Twinlock-Secret": secret.read_text()}
    finally:
        daemon.stop()


async def take_pages(address: str, headers: dict[str, str], folder: Path) -> None:
    """Take the pictures of the console's page."""
    points = "document.querySelectorAll('.plot canvas').length == 4"
    with browser.running() as devtools:
        async with browser.tab(devtools, headers) as tab:
            for name, (page, width, dark) in PAGES.items():
                await tab.go("about:blank", width)
                await tab.go(f"http://{address}{page}", width, dark=dark)
                await tab.until("document.body.innerText.includes('turing')" if "failures" in page else points)
                await asyncio.sleep(_CALM)
                (folder / f"{name}.png").write_bytes(await tab.picture())
                step(f"docs/pictures/{name}.png")
