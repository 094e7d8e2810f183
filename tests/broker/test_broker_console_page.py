"""The console's page in a Chromium: what it shows at which size, by keyboard alone, and whatever the texts are."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import browser
import pytest
from broker_rig import UEP, endpoint_user, request
from broker_site import CALLER, OTHER, Site, another, says
from browser import Tab
from console_rig import Page, console
from spawner_rig import PYTHON
from twinlock_broker.console import assets
from twinlock_broker.errors import CommandError

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason="needs chromium")

ENDPOINTS = "document.querySelectorAll('.list tbody')[0].rows.length"
"""How many endpoints the page has."""

ENDED = "document.querySelectorAll('.list tbody')[1].rows.length"
"""How many of them it says have ended."""

SECRET = "correct-horse-battery-staple"
HOSTILE = "<script>document.title='taken'</script><img src=x onerror=document.title='taken'>\u202etxet\u202c"
PICTURES = os.environ.get("TWINLOCK_CONSOLE_PICTURES")
"""Where to keep the screenshots; without it, they aren't kept."""

FITS = "document.documentElement.scrollWidth <= innerWidth"
LIVE = "document.getElementById('connection').innerText == 'live'"


@pytest.fixture
def policy() -> dict[str, object]:
    return {"programs": {"caller": [*PYTHON, CALLER]}}


@pytest.fixture(scope="module")
def devtools() -> Iterator[str]:
    """A browser for all tests here."""
    with browser.running() as address:
        yield address


@pytest.fixture
async def page(site: Site, unused_tcp_port: int) -> AsyncIterator[Page]:
    """A console of a site with an endpoint, one of another account, and a failure."""
    figures = {"running_tasks": 2, "queued_tasks": 3, "done_tasks": 7, "memory_bytes": 300 << 20, "total_workers": 4}
    said = {"type": "figures", "figures": figures, "condition": HOSTILE}
    await site.supervisor.command(request(endpoint_user(), "caller", says(said)))
    await site.supervisor.command(another("sleep", ""))
    next(one for one in site.supervisor.endpoints if one.id == OTHER).user = "games"
    failure = CommandError(f"The options don't fit: {HOSTILE}", "only administrators read this")
    failure.user, failure.stage, failure.options = "games", "rendering", {"account": HOSTILE * 20}
    site.supervisor.failures.refused(OTHER, "0a1b2c3d", failure)
    own = {"listen": f"127.0.0.1:{unused_tcp_port}", "hosts": ("127.0.0.1",)}
    async with console(site.runtime, site.runtime / "readers.sock", SECRET, **own) as made:
        yield made


@asynccontextmanager
async def looking(devtools: str, user: str = "root") -> AsyncIterator[Tab]:
    """A tab of somebody who is logged in as this account, in which nothing goes wrong."""
    async with browser.tab(devtools, {"X-Remote-User": user, "X-Twinlock-Secret": SECRET}) as made:
        yield made
        assert made.problems == []


async def keep(tab: Tab, name: str) -> None:
    """Keep a screenshot, if somebody wants to look at it."""
    if PICTURES:
        (Path(PICTURES) / f"{name}.png").write_bytes(await tab.picture())


@pytest.mark.cases(1)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
async def test_all_is_shown_and_nothing_scrolls_sideways(devtools: str, page: Page, width: int, dark: bool) -> None:
    name = f"{width}-{'dark' if dark else 'light'}"
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/", width, dark=dark)
        await tab.until(f"{LIVE} && {ENDPOINTS} == 2")
        if assets.has_plots():
            await tab.until("document.querySelectorAll('.plot canvas').length == 4")
        words = " ".join((await tab.text()).split())
        for word in (endpoint_user(), "games", UEP[:8], "running", "300 MiB", "Tasks waiting", "cluster"):
            assert word in words
        assert await tab.value(FITS)
        await keep(tab, f"endpoints-{name}")
        for part, plots in (("failures", 0), ("users", 0), ("starts", 2), (f"endpoint/{UEP}", 4)):
            await tab.value(f"location.hash = '#/{part}'")
            await tab.until("document.querySelector('main').innerText.length > 20")
            if assets.has_plots():
                await tab.until(f"document.querySelectorAll('.plot canvas').length == {plots}")
            assert await tab.value(FITS), part
            await keep(tab, f"{part.partition('/')[0]}-{name}")


@pytest.mark.cases(1)
@pytest.mark.parametrize("width", [320, 1190, 1210])
async def test_it_fits_also_where_the_layout_changes(devtools: str, page: Page, width: int) -> None:
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/", width)
        await tab.until(f"{LIVE} && {ENDPOINTS} == 2")
        assert await tab.value(FITS)
        await keep(tab, f"endpoints-{width}")


async def test_neighbours_on_the_axis_of_times_have_names_of_their_own(devtools: str, page: Page) -> None:
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/", 390)
        await tab.until(LIVE)
        for step, shown in ((15, ["07:45:00", "07:45:15"]), (60, ["07:45", "07:46"])):
            times = f"new Date(2026, 0, 31, 7, 45).getTime() / 1000 + {step} * place"
            ticks = f"[0, 1].map((place) => {times})"
            assert await tab.value(f"import('./format.js').then((its) => its.clocks({ticks}, {step}))") == shown


async def test_texts_of_others_are_texts(devtools: str, page: Page) -> None:
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/#/failures", 390)
        await tab.until("document.querySelectorAll('.failure').length == 1")
        assert "<script>document.title" in await tab.text(".failure")
        assert "only administrators read this" in await tab.text(".failure")
        assert await tab.value("document.title") == "Twinlock: Failures"
        assert await tab.value("document.querySelectorAll('main script, main img').length") == 0
        await tab.go(f"http://{page.address}/#/", 390)
        await tab.until("document.body.innerText.includes('<img src=x')")
        assert await tab.value(FITS)


async def test_a_name_without_end_widens_nothing(devtools: str, page: Page, site: Site) -> None:
    next(one for one in site.supervisor.endpoints if one.id == OTHER).user = "x" * 500
    async with looking(devtools) as tab:
        for width in (390, 1400):
            await tab.go(f"http://{page.address}/", width)
            await tab.until(f"{LIVE} && document.body.innerText.includes('xxxxxxxx')")
            assert await tab.value(FITS)


async def test_the_page_says_that_the_console_is_away_and_goes_on(devtools: str, site: Site, page: Page) -> None:
    own: dict[str, Any] = {"listen": "", "hosts": ("127.0.0.1",)}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        own["listen"] = f"127.0.0.1:{free.getsockname()[1]}"
    async with looking(devtools) as tab:
        for _ in range(2):
            async with console(site.runtime, site.runtime / "readers.sock", SECRET, **own) as another_page:
                if await tab.value("location.href") == "about:blank":
                    await tab.go(f"http://{another_page.address}/", 390)
                await tab.until(f"{LIVE} && {ENDPOINTS} == 2")
            await tab.until("document.getElementById('connection').innerText.startsWith('console away')")
        tab.problems.clear()  # the browser says that nobody answered


async def test_somebody_else_sees_the_own_endpoints(devtools: str, page: Page) -> None:
    async with looking(devtools, "games") as tab:
        await tab.go(f"http://{page.address}/", 1400)
        await tab.until(f"{LIVE} && {ENDPOINTS} == 1")
        assert await tab.value("[...document.querySelectorAll('nav a')].filter((a) => a.offsetParent).length") == 2
        await tab.go(f"http://{page.address}/#/endpoint/{UEP}", 1400)
        await tab.until("document.body.innerText.includes('no such endpoint of yours')")
        await tab.go(f"http://{page.address}/#/failures", 1400)
        await tab.until("document.querySelectorAll('.failure').length == 1")
        assert "only administrators" not in await tab.text()


async def test_by_keyboard_alone(devtools: str, page: Page) -> None:
    focused = "document.activeElement.innerText.trim()"
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/", 1400)
        await tab.until(f"{LIVE} && {ENDPOINTS} == 2")
        seen = []
        for _ in range(8):
            await tab.press("Tab")
            seen.append(await tab.value(focused))
            assert await tab.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
        assert seen[:5] == ["Skip to the content", "Endpoints", "Users", "Starts", "Failures (1)"]
        assert seen[6:] == ["User", "Endpoint"], "the filter lies between"
        heading = "document.querySelectorAll('.list th')[1].getAttribute('aria-sort')"
        await tab.press("Enter")
        assert await tab.value(heading) == "ascending"
        await tab.press("Enter")
        assert await tab.value(heading) == "descending"
        await tab.press("/", *"games")
        await tab.until(f"{ENDPOINTS} == 1")
        await tab.press("Escape")
        await tab.until(f"{ENDPOINTS} == 2")
        await tab.value("document.querySelector('.list td a').focus()")
        await tab.press("Enter")
        await tab.until("document.querySelector('h2').innerText.startsWith('Endpoint 9999')")
        assert await tab.value("document.activeElement.id") == "main"


async def test_the_focus_stays_while_rows_change(devtools: str, page: Page, site: Site) -> None:
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/", 1400)
        await tab.until(f"{LIVE} && {ENDPOINTS} == 2")
        await tab.value(f"document.querySelector('a[href=\"#/endpoint/{UEP}\"]').focus()")
        await site.supervisor.stop(OTHER)
        await tab.until(f"{ENDPOINTS} == 1")
        assert await tab.value("document.activeElement.getAttribute('href')") == f"#/endpoint/{UEP}"
        await tab.until(f"{ENDED} == 1")


async def test_the_page_says_that_the_broker_is_away_and_goes_on(devtools: str, page: Page, site: Site) -> None:
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/", 1400)
        await tab.until(f"{LIVE} && {ENDPOINTS} == 2")
        (site.runtime / "readers.sock").rename(site.runtime / "away.sock")
        await tab.until("document.getElementById('connection').innerText.startsWith('broker away since 20')")
        assert await tab.value("document.getElementById('connection').getAttribute('aria-live')") == "polite"
        (site.runtime / "away.sock").rename(site.runtime / "readers.sock")
        await tab.until(LIVE)


async def test_without_the_library_there_are_tables_and_no_plots(
    devtools: str, page: Page, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(assets, "plots_folder", lambda: tmp_path)
    async with looking(devtools) as tab:
        await tab.go(f"http://{page.address}/", 390)
        await tab.until(f"{LIVE} && {ENDPOINTS} == 2")
        assert "Plots aren't installed here" in await tab.text()
        assert await tab.value("document.querySelectorAll('.plot').length") == 0


async def test_nobody_who_is_not_named(devtools: str, page: Page) -> None:
    async with browser.tab(devtools, {"X-Twinlock-Secret": SECRET}) as tab:
        await tab.go(f"http://{page.address}/", 390)
        await tab.until("document.querySelector('[role=alert]') != null")
        assert "has to name one account" in await tab.text("main")
        assert await tab.value(FITS)


CONTRAST = """
(() => {
  const part = (value) => { const c = value / 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
  const colour = (text) => text.match(/[\\d.]+/g).map(Number);
  const ground = (element) => {
    for (let one = element; one; one = one.parentElement) {
      const found = colour(getComputedStyle(one).backgroundColor);
      if (found.length == 3 || found[3] > 0) return found;
    }
    return [255, 255, 255];
  };
  const ratio = (element) => {
    const two = [light(colour(getComputedStyle(element).color)), light(ground(element))].sort((a, b) => b - a);
    return (two[0] + 0.05) / (two[1] + 0.05);
  };
  const shown = [...document.querySelectorAll("body *")].filter((one) => one.offsetParent && [...one.childNodes].some(
    (child) => child.nodeType == Node.TEXT_NODE && child.textContent.trim()));
  return Math.min(...shown.map(ratio));
})()
"""


@pytest.mark.cases(1)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
async def test_texts_stand_out_from_their_ground(devtools: str, page: Page, dark: bool) -> None:
    """By 4.5 to 1, the level AA of WCAG 2 for texts of this size."""
    async with looking(devtools) as tab:
        for part in ("", "failures"):
            await tab.go(f"http://{page.address}/#/{part}", 1400, dark=dark)
            await tab.until(f"{LIVE} && document.querySelectorAll('.list tbody tr, .failure').length >= 1")
            assert await tab.value(CONTRAST) >= 4.5
