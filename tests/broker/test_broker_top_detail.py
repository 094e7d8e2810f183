"""`twinlock top` with one endpoint on the screen: its log, its configuration, its failures, and the broker's lines."""

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, request
from broker_site import Site, ask
from top_rig import answer, keys, row, until
from twinlock_broker import account_files
from twinlock_broker.errors import Fatal
from twinlock_broker.top import broker_link, log
from twinlock_broker.top.app import Top
from twinlock_broker.top.broker_link import look
from twinlock_broker.top.log import LogReader
from twinlock_broker.top.picture import Picture

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it reads as another account")
CONFIG = "engine: {type: X, api_token: hush}\n"


class Followed:
    """A log that is followed, in a folder that its account can enter."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.path = base / f"uep.{MANAGER}.{UEP}" / "endpoint.log"
        self.path.parent.mkdir()
        self.lines: list[str] = []
        self.reader = LogReader(endpoint_user(), self.lines.extend)

    async def open(self) -> None:
        """Begin."""
        assert await self.reader.open(MANAGER, UEP, str(self.base)) == self.path

    async def until(self, words: str) -> str:
        """All lines so far, as soon as `words` are in one."""
        async with asyncio.timeout(60):
            while not any(words in line for line in self.lines):
                await asyncio.sleep(0.02)
        return "\n".join(self.lines)


def readers(path: Path) -> list[int]:
    """The processes that read this log."""
    named = f"\0{path}\0".encode()
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [int(process.parent.name)] if process.read_bytes().endswith(named) else []
    return found


async def gone(path: Path) -> None:
    """Nobody reads this log any more."""
    async with asyncio.timeout(60):
        while readers(path):
            await asyncio.sleep(0.02)


@pytest.fixture
def base() -> Iterator[Path]:
    """A folder that every account can enter."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
async def followed(base: Path) -> AsyncIterator[Followed]:
    made = Followed(base)
    yield made
    made.reader.close()


async def test_a_log_is_followed(followed: Followed) -> None:
    followed.path.write_text("".join(f"line {number}\x1b[2J\n" for number in range(1000)))
    await followed.open()
    shown = await followed.until("line 999")
    assert "line 800 " in shown
    assert "line 799 " not in shown
    with followed.path.open("a") as file:
        file.write("more\n")
    assert (await followed.until("more")).replace("\n", "").isprintable()


async def test_a_log_that_is_not_there_yet(followed: Followed) -> None:
    await followed.open()
    await followed.until("No such file")
    followed.path.write_text("begun\n")
    await followed.until("begun")


@needs_root
async def test_a_link_shows_nothing_that_the_account_cannot_read(followed: Followed) -> None:
    private = followed.base / "private"
    private.write_text("hush\n")
    private.chmod(0o600)
    followed.path.symlink_to(private)
    await followed.open()
    assert "hush" not in await followed.until("Permission denied")


async def test_a_file_without_end_costs_little(followed: Followed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(account_files, "_SECONDS", 1)
    followed.path.symlink_to("/dev/zero")
    await followed.open()
    await followed.until("nobody reads the log any more")
    assert max(map(len, followed.lines)) <= log.LONGEST


async def test_a_pipe_holds_up_nobody(followed: Followed) -> None:
    os.mkfifo(followed.path)
    await followed.open()
    async with asyncio.timeout(60):
        while not readers(followed.path):  # a process has no command line while it becomes another program
            await asyncio.sleep(0.02)
    followed.reader.close()
    await gone(followed.path)
    assert followed.lines == []


async def test_a_line_without_end_is_cut(followed: Followed) -> None:
    followed.path.write_text("x" * 100_000 + "\nend\n")
    await followed.open()
    await followed.until("end")
    assert max(map(len, followed.lines)) <= log.LONGEST


def test_nothing_of_root_is_opened_and_ids_are_no_paths() -> None:
    with pytest.raises(Fatal, match="root is root"):
        log.follow("root", Path("/etc/shadow"))
    for manager, endpoint in (("../..", UEP), (MANAGER, "../../x"), (MANAGER, f"{UEP}/..")):
        with pytest.raises(Fatal, match="isn't a uuid"):
            log.path_of(endpoint_user(), manager, endpoint, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="needs an account that isn't root")
def test_only_root_follows_the_logs_of_others() -> None:
    with pytest.raises(Fatal, match="only root may"):
        log.follow("daemon", Path("/nowhere"))


async def test_what_the_broker_says_about_an_endpoint(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "twinlock_broker")
    made = request(endpoint_user(), "sleep", CONFIG)
    document = dataclasses.replace(made.document, environment={"GLOBUS_COMPUTE_USER_DIR": "/data"})
    await site.supervisor.command(dataclasses.replace(made, document=document))
    admin = site.runtime / "admin.sock"
    config = await ask(admin, json.dumps({"request": "config", "endpoint": UEP}))
    assert config == {"config": CONFIG, "user_dir": "/data"}
    assert await ask(admin, '{"request": "config", "endpoint": 7}') == {"config": None, "user_dir": ""}
    events = await ask(admin, json.dumps({"request": "events", "endpoint": UEP}))
    assert any("the spawner started it" in line for line in events["events"])
    assert await ask(admin, '{"request": "failures"}') == {"failures": []}


async def test_one_endpoint_on_the_screen(
    site: Site, base: Path, told: Told, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twinlock_broker")
    monkeypatch.setattr(broker_link, "PERIOD", 0.1)
    followed = Followed(base)
    followed.path.write_text("the log [bold]says[/bold]\n")
    made = request(endpoint_user(), "sleep", CONFIG)
    document = dataclasses.replace(made.document, environment={"GLOBUS_COMPUTE_USER_DIR": str(base)})
    await site.supervisor.command(dataclasses.replace(made, document=document))
    path = site.runtime / "admin.sock"
    top = Top(path, await asyncio.to_thread(look, path))
    async with top.run_test(size=(120, 30)) as pilot:
        await keys(pilot, "enter")
        shown = await until(pilot, lambda seen: "the log [bold]says[/bold]" in seen)
        assert f"{endpoint_user()} {UEP}" in shown
        await keys(pilot, "2")
        shown = await until(pilot, lambda seen: "api_token: <secret>" in seen)
        assert "hush" not in shown
        await keys(pilot, "right")
        await until(pilot, lambda seen: "Nothing has failed" in seen)
        await keys(pilot, "4")
        await until(pilot, lambda seen: "the spawner started it" in seen)
        await site.supervisor.stop(UEP)
        await told.next()
        await until(pilot, lambda seen: "IT HAS ENDED" in seen)
        assert readers(followed.path)
        await keys(pilot, "escape")
        await until(pilot, lambda seen: "? keys" in seen)
        await gone(followed.path)


async def test_what_failed_last_whoevers_it_is(site: Site) -> None:
    await site.supervisor.command(request("root", "sleep"))
    path = site.runtime / "admin.sock"
    top = Top(path, await asyncio.to_thread(look, path))
    async with top.run_test(size=(120, 30)) as pilot:
        await keys(pilot, "f")
        shown = await until(pilot, lambda seen: "failed at: policy" in seen)
        assert "account root" in shown


async def test_without_a_broker_the_detail_says_so() -> None:
    top = Top(Path("/nowhere/admin.sock"), Picture(answer(row(1)), monotonic()))
    async with top.run_test(size=(120, 30)) as pilot:
        await keys(pilot, "enter")
        await until(pilot, lambda seen: "no broker there" in seen)
        await keys(pilot, "2")
        await until(pilot, lambda seen: "no broker there" in seen)
        await keys(pilot, "escape", "f")
        await until(pilot, lambda seen: "no broker there" in seen and "? keys" in seen)
