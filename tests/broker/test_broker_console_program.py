"""`twinlock-console` as a program: its settings, where it listens, and that it runs without privileges."""

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO

import pytest
from broker_process import NOBODY
from broker_rig import MANAGER
from broker_site import Site
from console_rig import Page
from twinlock_broker.console.keys import CONSOLE_KEYS, read_settings
from twinlock_broker.console.secret_file import read_secret
from twinlock_broker.errors import Fatal

CONSOLE = (sys.executable, "-m", "twinlock_broker.console")
UNPRIVILEGED = NOBODY if os.geteuid() == 0 else ()
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be another account")


def written(folder: Path, *lines: str) -> Path:
    """A console.yaml."""
    path = folder / "console.yaml"
    path.write_text("\n".join(lines))
    return path


@asynccontextmanager
async def running(config: Path, *account: str, log: IO[str] | None = None) -> AsyncIterator[asyncio.subprocess.Process]:
    """The program, when it says that it is ready; it logs to `log`."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *account, *CONSOLE, "--config", config, stdout=pipe, stderr=log, cwd="/"
    )
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), 60)
        assert line.startswith(b"twinlock-console ready on "), line
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


@needs_root
async def test_it_runs_under_an_account_of_its_own_and_ends_when_it_is_told(site: Site) -> None:
    """The account is the spawner rig's for endpoints, which may read here because the site names it."""
    place = site.runtime / "place"
    place.mkdir()
    os.chown(place, 1, 65534)  # daemon's, whom the site has among its readers
    config = written(
        site.runtime,
        f"listen: {place}/console.sock",
        f"broker_socket: {site.runtime}/readers.sock",
        "administrators: [root]",
    )
    account = [word.replace("reuid=nobody", "reuid=daemon") for word in NOBODY]
    async with running(config, *account) as process:
        socket = place / "console.sock"
        assert stat.S_IMODE(socket.stat().st_mode) == 0o660
        page = Page(str(socket), None)  # type: ignore[arg-type]  # it has none in this process
        async with page.events() as events:
            while (await events.until("state"))["broker"].get("endpoint") != MANAGER:
                pass
            process.send_signal(signal.SIGTERM)
            assert await asyncio.wait_for(process.wait(), 60) == os.EX_OK


def alone(runtime: Path) -> tuple[Path, Path]:
    """The folder of a console's socket, which every account may write to, and its configuration; there is no broker."""
    place = runtime / "place"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    return place, written(runtime, f"listen: {place}/console.sock", f"broker_socket: {place}/none.sock")


async def test_requests_that_are_none_fill_no_log(runtime: Path) -> None:
    place, config = alone(runtime)
    with (runtime / "log").open("w") as log:
        async with running(config, *UNPRIVILEGED, log=log):
            for request in (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000, b"nonsense", b"\x16\x03\x01"):
                reader, writer = await asyncio.open_unix_connection(place / "console.sock")
                writer.write(request + b"\r\n\r\n")
                assert b" 400 " in await asyncio.wait_for(reader.readline(), 60)
                writer.close()
    assert (runtime / "log").read_text() == ""


@needs_root
def test_it_refuses_to_run_as_root() -> None:
    done = subprocess.run(CONSOLE, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "the console must not run as root" in done.stderr) == (os.EX_NOPERM, True)


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["listen: 127.0.0.1:8080"], "set proxy_secret_file"),
        (["listen: 0.0.0.0:8080"], "listen has to be a path, or HOST:PORT of a loopback address"),
        (["listen: example.org:80"], "listen has to be"),
        (["user_header: X_Remote_User"], "user_header has to be the name of a header"),
        (["history: 0"], "history has to be a number from 1 to 168 in h"),
        (["administrator: [root]"], "did you mean 'administrators'"),
        (["hosts: localhost"], "hosts has to be a list of texts"),
        (["- 1"], "has to be a YAML mapping"),
    ],
)
def test_settings_that_can_not_be(tmp_path: Path, lines: list[str], reason: str) -> None:
    with pytest.raises(Fatal, match=r"console\.yaml") as refused:
        read_settings(written(tmp_path, *lines))
    assert reason in str(refused.value)
    assert refused.value.status == os.EX_CONFIG


def test_the_example_shows_the_defaults() -> None:
    example = Path(__file__).parents[2] / "packaging/console.yaml"
    lines = [line.removeprefix("# ") for line in example.read_text().splitlines()]
    shown = [line.partition(":")[0] for line in lines if line.partition(":")[0] in {key.name for key in CONSOLE_KEYS}]
    assert shown == [key.name for key in CONSOLE_KEYS]
    assert read_settings(example) == read_settings(None)


@pytest.mark.parametrize(
    ("text", "mode", "status"),
    [
        ("0123456789abcdef0123456789abcdef\n", 0o644, os.EX_NOPERM),
        ("short\n", 0o600, os.EX_CONFIG),
        ("one secret and another one\n", 0o600, os.EX_CONFIG),
        ("0123456789abcdef\n0123456789abcdef\n", 0o600, os.EX_CONFIG),
        ("", 0o600, os.EX_CONFIG),
        (None, 0, os.EX_NOINPUT),
    ],
)
def test_a_file_with_no_good_secret(tmp_path: Path, text: str | None, mode: int, status: int) -> None:
    path = tmp_path / "secret"
    if text is not None:
        path.write_text(text)
        path.chmod(mode)
    with pytest.raises(Fatal) as refused:
        read_secret(path)
    assert refused.value.status == status
    assert "0123" not in str(refused.value)


def test_a_secret(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("0123456789abcdef\n")
    path.chmod(0o640)
    found = read_secret(path)
    assert found is not None
    assert (found.reveal(), str(found)) == (b"0123456789abcdef", "<secret>")


@pytest.mark.parametrize(
    ("lines", "status", "reason"),
    [
        (["listen: /no-such-folder/console.sock"], os.EX_CANTCREAT, "its folder has to be the console's"),
        (["socket_group: no-such-group"], os.EX_NOUSER, "there is no group 'no-such-group'"),
    ],
)
def test_where_it_can_not_listen(runtime: Path, lines: list[str], status: int, reason: str) -> None:
    argv = [*UNPRIVILEGED, *CONSOLE, "--config", written(runtime, *lines)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, reason in done.stderr) == (status, True), done.stderr


def test_it_loads_little() -> None:
    """Neither what talks to the service nor what draws on terminals, with which it has nothing to do."""
    code = "import json, sys, twinlock_broker.console.__main__; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(json.loads(done.stdout))
    assert not loaded & {"textual", "rich", "globus_sdk", "pika", "jinja2", "prometheus_client", "nacl"}


def test_the_broker_does_not_load_the_consoles_web_server() -> None:
    code = "import json, sys, twinlock_broker.__main__; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert not {"aiohttp", "twinlock_broker.console"} & set(json.loads(done.stdout))


async def test_a_second_one_does_not_take_the_place_of_the_first(runtime: Path) -> None:
    place, config = alone(runtime)
    async with running(config, *UNPRIVILEGED) as first:
        argv = [*UNPRIVILEGED, *CONSOLE, "--config", config]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, "another console is running there" in done.stderr) == (os.EX_CANTCREAT, True)
        reader, writer = await asyncio.open_unix_connection(place / "console.sock")
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Remote-User: root\r\n\r\n")
        assert await asyncio.wait_for(reader.readline(), 60) == b"HTTP/1.1 200 OK\r\n"
        writer.close()
        first.kill()
        await first.wait()
    async with running(config, *UNPRIVILEGED):
        """Of one that was killed, the socket is there, and nobody answers."""
