"""The page in a Chromium: on a phone and a wide screen, dark and light."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
from service_rig import ALICE, IDENTITIES, TOKENS, Rest
from twinlock_service.context import Context

pytestmark = pytest.mark.skipif(browser.chromium() is None, reason="needs chromium")

FITS = "document.documentElement.scrollWidth <= innerWidth"
PICTURES = os.environ.get("TWINLOCK_CONSOLE_PICTURES")
"""Where to keep the screenshots; without it, they aren't kept."""


@pytest.fixture(scope="module")
def devtools() -> Iterator[str]:
    """A browser for all tests here."""
    with browser.running() as address:
        yield address


@pytest.mark.cases(1)
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
async def test_somebody_logs_in_by_keyboard_and_all_fits(
    devtools: str, rest: Rest, context: Context, width: int, dark: bool
) -> None:
    owner = IDENTITIES[ALICE]
    endpoint = context.endpoints.register("single", owner, {"endpoint_name": "<b>a long name</b>" * 9})
    context.tasks.add(context.tasks.new_group(owner), owner, endpoint.id, "7b1f2f6e-0000-4000-8000-000000000009")
    async with browser.tab(devtools, {}) as tab:
        await tab.go(f"http://{rest.host}:{rest.port}/", width, dark=dark)
        await tab.until("document.activeElement.name == 'token'")
        assert await tab.value(FITS)
        await tab.value(f"document.activeElement.value = {json.dumps(TOKENS[ALICE])}")
        await tab.press("Enter")
        await tab.until("document.querySelectorAll('.list').length == 2")
        words = await tab.text()
        assert all(word in words for word in (endpoint.id, ALICE, "<b>a long name</b>", "Log out"))
        assert await tab.value(FITS)
        ground = await tab.value("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, ground.removeprefix("rgb(").removesuffix(")").split(","))) < 3 * 128) is dark
        if PICTURES:
            (Path(PICTURES) / f"service-{width}-{'dark' if dark else 'light'}.png").write_bytes(await tab.picture())
    assert tab.problems == []
