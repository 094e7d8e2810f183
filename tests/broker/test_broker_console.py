"""The console: who sees what, and how it follows a broker."""

import asyncio
import json
import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from broker_rig import MANAGER, UEP, endpoint_user, request
from broker_site import OTHER, Site, another, ask, says
from console_rig import Page, console, with_secret
from twinlock_broker.console import stream
from twinlock_broker.endpoints.registry import State
from twinlock_broker.errors import CommandError

SECRET = "correct-horse-battery-staple"
NAMED = {"X-Remote-User": "root"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another account")


@pytest.fixture
async def page(site: Site) -> AsyncIterator[Page]:
    """A console of the site."""
    async with console(site.runtime, site.runtime / "readers.sock") as made:
        yield made


async def two_endpoints(site: Site) -> None:
    """An endpoint of the account of endpoints, and one of `games`."""
    figures = {"running_tasks": 2, "queued_tasks": 3, "done_tasks": 7, "memory_bytes": 1 << 20}
    await site.supervisor.command(request(endpoint_user(), "sleep", says({"type": "figures", "figures": figures})))
    await site.supervisor.command(another("sleep", ""))
    next(one for one in site.supervisor.endpoints if one.id == OTHER).user = "games"


async def test_an_administrator_sees_all_endpoints_as_they_are(site: Site, page: Page) -> None:
    await two_endpoints(site)
    await site.supervisor.stop(OTHER)
    async with page.events() as events:
        rows = await events.endpoints(UEP)
        assert (rows[UEP]["user"], rows[UEP]["state"]) == (endpoint_user(), "running")
        state = await events.until("state")
    assert state["broker"]["endpoint"] == MANAGER
    assert state["broker"]["spawner_connected"] is True
    assert state["starts"]["outcomes"]["started"] >= 2
    assert {stage["stage"] for stage in state["starts"]["stages"]} >= {"start", "spawn"}


async def test_users_see_only_their_own_in_every_answer(site: Site, page: Page) -> None:
    await two_endpoints(site)
    refused = CommandError("it doesn't fit", "a detail for administrators")
    for user, endpoint in ((endpoint_user(), UEP), ("games", OTHER)):
        refused.user = user
        site.supervisor.failures.refused(endpoint, "00000000", refused)
    async with page.events() as events:
        await events.endpoints(UEP, OTHER)
        await events.failures(2)
    async with page.events("games") as events:
        seen = [await events.next() for _ in range(4)]
    assert {name for name, _ in seen} == {"state", "failures", "series"}
    text = json.dumps(seen)
    assert OTHER in text
    for hidden in (UEP, endpoint_user(), "a detail", "spawner_connected", "outcomes", "blocked"):
        assert hidden not in text
    assert (await page.get(f"/api/endpoints/{OTHER}", "games"))[0] == 200
    assert (await page.get(f"/api/endpoints/{UEP}", "games"))[0] == 404
    assert (await page.get(f"/api/endpoints/{UEP}"))[0] == 200


async def test_an_unknown_account_sees_an_empty_page(site: Site, page: Page) -> None:
    await two_endpoints(site)
    async with page.events() as events:
        await events.endpoints(UEP, OTHER)
    async with page.events("nobody-knows-me") as events:
        assert (await events.until("state"))["endpoints"] == []
        assert await events.until("failures") == []


async def test_members_of_a_group_are_administrators(site: Site) -> None:
    groups: dict[str, Any] = {"administrators": (), "administrator_groups": ("daemon", "no-such-group")}
    async with console(site.runtime, site.runtime / "readers.sock", **groups) as page:
        for user, is_one in (("daemon", True), ("games", False), ("nobody-knows-me", False)):
            assert json.loads((await page.get("/api/viewer", user))[1])["administrator"] is is_one


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("X-Remote-User", "")],
        [("X-Remote-User", "ada"), ("X-Remote-User", "root")],
        [("X-Remote-User", "ada, root")],
        [("X-Remote-User", "ada\troot")],
        [("X-Remote-User", "a" * 65)],
        [("X_Remote_User", "root")],
        [("X-Remote-User", "ro\u00f6t")],
    ],
)
async def test_a_header_that_names_no_account(page: Page, headers: list[tuple[str, str]]) -> None:
    for path in ("/api/viewer", "/api/events", f"/api/endpoints/{UEP}"):
        async with page.asked(path, headers) as answer:
            assert answer.status == 403
            assert "name one account in the header X-Remote-User" in await answer.text()


async def test_a_header_without_end(page: Page) -> None:
    async with page.asked("/api/viewer", {"X-Remote-User": "a" * (1 << 20)}) as answer:
        assert answer.status == 400


async def test_on_a_port_only_who_knows_the_secret_is_heard(site: Site, unused_tcp_port: int) -> None:
    address = f"127.0.0.1:{unused_tcp_port}"
    own = {"listen": address, "hosts": ("127.0.0.1",)}
    async with console(site.runtime, site.runtime / "readers.sock", SECRET, **own) as page:
        for path in ("/", "/main.js", "/api/viewer", "/api/events"):
            assert (await page.get(path))[0] == 403
            assert (await page.get(path, **with_secret(SECRET[:-1])))[0] == 403
            async with page.asked(path, [*NAMED.items(), *[("X-Twinlock-Secret", SECRET)] * 2]) as answer:
                assert answer.status == 403
        assert (await page.get("/api/viewer", **with_secret(SECRET)))[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "localhost@evil.example", ""])
async def test_another_host_name_is_refused(page: Page, host: str) -> None:
    status, text = await page.get("/api/viewer", Host=host)
    assert (status, "doesn't answer to the host name" in text) == (421, True)


@pytest.mark.parametrize("site_header", ["cross-site", "same-site"])
async def test_another_sites_page_gets_nothing_but_may_lead_here(page: Page, site_header: str) -> None:
    assert (await page.get("/api/events", Sec_Fetch_Site=site_header))[0] == 403
    assert (await page.get("/main.js", Sec_Fetch_Site=site_header, Sec_Fetch_Dest="script"))[0] == 403
    assert (await page.get("/", Sec_Fetch_Site=site_header, Sec_Fetch_Dest="document"))[0] == 200


@pytest.mark.parametrize("path", ["/", "/main.js", "/style.css", "/api/viewer", "/nothing", "/../keys.py"])
async def test_every_answer_has_its_headers(page: Page, path: str) -> None:
    async with page.asked(path, NAMED) as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Cache-Control"] in ("no-store", "no-cache")
        assert "aiohttp" not in answer.headers["Server"]


async def test_the_page_goes_on_when_the_broker_is_back(site: Site, page: Page) -> None:
    await two_endpoints(site)
    path = site.runtime / "readers.sock"
    async with page.events() as events, page.events("games") as others:
        await events.endpoints(UEP, OTHER)
        path.rename(site.runtime / "away.sock")
        state = await events.until("state")
        while not state["broker"]["trouble"]:
            state = await events.until("state")
        assert "no broker there" in state["broker"]["trouble"]
        assert {row["id"] for row in state["endpoints"]} == {UEP, OTHER}
        hidden = await others.until("state")
        while not hidden["broker"]["trouble"]:
            hidden = await others.until("state")
        assert hidden["broker"]["trouble"] == "the broker doesn't answer"
        (site.runtime / "away.sock").rename(path)
        while (await events.until("state"))["broker"]["trouble"]:
            pass


async def test_the_broker_is_asked_once_for_all_viewers(site: Site, page: Page) -> None:
    asked = 0
    status = site.readers.status

    async def counted() -> dict[str, Any]:
        nonlocal asked
        asked += 1
        return await status()

    site.readers.status = counted
    async with page.events() as first, page.events() as second, page.events("games") as third:
        for _ in range(3):
            for events in (first, second, third):
                await events.until("state")
        assert asked <= 5


async def test_a_viewer_that_takes_nothing_holds_up_nobody(
    site: Site, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "STALL_LIMIT", 1.0)
    large = CommandError("x" * 2000, "y" * 2000)
    large.user, large.options = "games", {"z": "z" * 1900}
    for _ in range(100):
        site.supervisor.failures.refused(UEP, "00000000", large)
    _, slow = await asyncio.open_unix_connection(page.address, limit=1)
    slow.write(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\nX-Remote-User: root\r\n\r\n")
    async with page.events() as events:
        assert len(await events.failures(100)) == 100
        async with asyncio.timeout(60):
            while page.stream.viewers != 1:
                await events.until("state")
    slow.close()


async def test_there_is_a_limit_of_viewers(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_OF_USER", 1)
    monkeypatch.setattr(stream, "MOST", 2)
    async with page.events("ada"):
        status, text = await page.get("/api/events", "ada")
        assert (status, "close one of them" in text) == (503, True)
        async with page.events("bob"):
            assert (await page.get("/api/events", "carl"))[0] == 503
        async with asyncio.timeout(60):
            while page.stream.viewers != 1:
                await asyncio.sleep(0.01)
        async with page.events("carl"):
            pass


async def test_who_asks_without_end_is_refused_and_nobody_else(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twinlock_broker.console.app.RATE", 0.001)  # a busy machine isn't faster than that
    monkeypatch.setattr("twinlock_broker.console.app.AT_ONCE", 3.0)
    async with console(site.runtime, site.runtime / "readers.sock") as page:
        assert [(await page.get("/api/viewer", "ada"))[0] for _ in range(6)][-1] == 429
        assert (await page.get("/api/events", "ada"))[0] == 429
        assert (await page.get("/api/viewer", "bob"))[0] == 200


async def test_a_connection_ends_so_that_rights_are_looked_up_again(
    page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinlock_broker.console.app.LIFETIME", 0.1)
    async with page.asked("/api/events", NAMED) as answer, asyncio.timeout(60):
        while await answer.content.readline():
            pass


@pytest.mark.parametrize("line", ["nonsense", "[]", "{}"])
async def test_what_a_reader_asks_wrongly(site: Site, line: str) -> None:
    assert "error" in await ask(site.runtime / "readers.sock", line)


@pytest.mark.parametrize("name", ["stop", "block", "unblock", "drain", "resume", "canary", "config", "events"])
async def test_a_reader_can_order_nothing(site: Site, name: str) -> None:
    await two_endpoints(site)
    line = {"request": name, "endpoint": UEP, "user": endpoint_user(), "reason": "why not"}
    answer = await ask(site.runtime / "readers.sock", json.dumps(line))
    assert "unknown request" in answer["error"]
    assert {one.state for one in site.supervisor.endpoints} == {State.RUNNING}
    assert (await ask(site.runtime / "admin.sock", '{"request": "status"}'))["drain"] is None


READ = """
import socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.connect(sys.argv[1])
sock.sendall(b'{"request": "starts"}\\n')
print(len(sock.recv(1000)) > 0)
"""


@asynccontextmanager
async def reading(path: Path, account: str) -> AsyncIterator[str]:
    """What an account gets to read at a socket."""
    made = await asyncio.create_subprocess_exec(
        "python3", "-c", READ, path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, user=account,
        extra_groups=[], cwd="/",
    )  # fmt: skip
    said, errors = await asyncio.wait_for(made.communicate(), 60)
    yield said.decode().strip() or errors.decode()


@needs_root
async def test_only_readers_may_read_and_they_do_not_get_to_the_administrators_socket(site: Site) -> None:
    assert {pwd.getpwnam(name).pw_uid for name in ("daemon", "games")}.isdisjoint({os.getuid()})
    async with reading(site.runtime / "readers.sock", "daemon") as said:
        assert said == "True"
    async with reading(site.runtime / "readers.sock", "games") as said:
        assert said == "False" or "ConnectionReset" in said or "BrokenPipe" in said
    async with reading(site.runtime / "admin.sock", "daemon") as said:
        assert "PermissionError" in said
