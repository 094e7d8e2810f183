"""A headless Chromium, driven by its DevTools protocol."""

import asyncio
import base64
import contextlib
import itertools
import json
import re
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

import aiohttp

LIMIT = 60.0
"""Seconds for an answer of the browser, and for what a page is to show."""

KEYS = {
    "Tab": ("Tab", 9, ""),
    "Enter": ("Enter", 13, "\r"),
    "Escape": ("Escape", 27, ""),
    "/": ("Slash", 191, "/"),
}
"""Keys that aren't letters or digits: their code, their number and their text."""

_ARGV = (
    "--headless=new",
    "--no-sandbox",  # it runs as root, and sees nothing but our own pages
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-extensions",
    "--disable-background-networking",
    "--force-device-scale-factor=1",
    "--remote-debugging-port=0",
)


def chromium() -> str | None:
    """Return the path of the program, if the machine has it."""
    return shutil.which("chromium")


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Run a browser while the block runs, and yield the address of its DevTools."""
    program = chromium()
    assert program is not None
    with tempfile.TemporaryDirectory(prefix="twl-", ignore_cleanup_errors=True) as folder:
        argv = [program, *_ARGV, f"--user-data-dir={folder}", "about:blank"]
        process = subprocess.Popen(argv, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert process.stderr is not None
        try:
            lines = (re.search(r"DevTools listening on (ws://\S+)", line) for line in process.stderr)
            yield next(found[1] for found in lines if found)
        finally:
            process.kill()
            process.communicate()


class Tab:
    """A tab of a context of its own, with nothing in it from others."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session: str | None = None
        self.problems: list[str] = []
        """What the page did wrong: exceptions, and what its Content-Security-Policy has refused."""

    async def open(self, headers: Mapping[str, str]) -> None:
        """Make the tab, whose requests have these headers."""
        context = await self._do("Target.createBrowserContext")
        target = await self._do("Target.createTarget", url="about:blank", **context)
        attached = await self._do("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self._do(f"{domain}.enable")
        await self._do("Network.setExtraHTTPHeaders", headers=dict(headers))

    async def go(self, address: str, width: int, height: int = 900, dark: bool = False) -> None:
        """Load a page on a screen of this size in pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self._do("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self._do("Emulation.setEmulatedMedia", features=[scheme])
        await self._do("Page.navigate", url=address)

    async def value(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        done = await self._evaluate(script)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, script: str) -> Any:
        """Return the value of an expression, as soon as it is true; it may fail while the page is loaded."""
        end = asyncio.get_running_loop().time() + LIMIT
        while not (found := (await self._evaluate(script))["result"].get("value")):
            if asyncio.get_running_loop().time() > end:
                raise AssertionError(f"{script} isn't true; the page has:\n{await self.text()}")
            await asyncio.sleep(0.05)
        return found

    async def text(self, selector: str = "body") -> str:
        """Return the words in an element, as they are shown."""
        return str(await self.value(f"document.querySelector({selector!r}).innerText"))

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            code, number, text = KEYS.get(key, (f"Key{key.upper()}", ord(key.upper()[:1]), key))
            about = {"key": key, "code": code, "windowsVirtualKeyCode": number}
            await self._do("Input.dispatchKeyEvent", type="keyDown", **about, **({"text": text} if text else {}))
            await self._do("Input.dispatchKeyEvent", type="keyUp", **about)

    async def picture(self) -> bytes:
        """Return what the page shows, from top to bottom, as PNG."""
        shot = await self._do("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        return base64.b64decode(shot["data"])

    async def listen(self) -> None:
        """Take what the browser says, without end."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._note(said)

    def _note(self, said: dict[str, Any]) -> None:
        match said["method"], said["params"]:
            case "Runtime.exceptionThrown", {"exceptionDetails": details}:
                self.problems.append(json.dumps(details))
            case "Log.entryAdded", {"entry": {"source": "security" | "javascript" | "other"} as entry}:
                self.problems.append(entry["text"])

    async def _evaluate(self, script: str) -> dict[str, Any]:
        return await self._do("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)

    async def _do(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {} if self._session is None else {"sessionId": self._session}
        await self._socket.send_json({"id": number, "method": method, "params": params} | session)
        async with asyncio.timeout(LIMIT):
            said = await answer
        assert "error" not in said, said
        result: dict[str, Any] = said["result"]
        return result


@contextlib.asynccontextmanager
async def tab(devtools: str, headers: Mapping[str, str]) -> AsyncIterator[Tab]:
    """Yield a tab of the browser while the block runs."""
    # The browser's own messages, pictures among them, may be large.
    async with aiohttp.ClientSession() as session, session.ws_connect(devtools, max_msg_size=1 << 26) as socket:
        made = Tab(socket)
        listening = asyncio.create_task(made.listen())
        try:
            await made.open(headers)
            yield made
        finally:
            listening.cancel()
            await asyncio.wait((listening,))
