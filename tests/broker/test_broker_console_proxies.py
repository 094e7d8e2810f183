"""The configurations of Apache and nginx in docs/console.md, with the real web servers."""

import base64
import contextlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import aiohttp
import pytest
from broker_site import Site
from console_rig import Events, console
from docs_texts import ROOT

NAME = "hpc.example.org"
MANUAL = (ROOT / "docs/console.md").read_text()
SOCKET = "/run/twinlock-console/console.sock"
LIMIT = 60.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, as web servers do")

NGINX = """\
daemon off; pid {place}/pid; error_log stderr; user www-data;
events {{}}
http {{ access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/f;
uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;
server {{ listen 127.0.0.1:{port}; server_name hpc.example.org;
{manual}
}} }}
"""
APACHE = """\
ServerRoot {place}
PidFile {place}/pid
ErrorLog {place}/errors
User www-data
Group www-data
Mutex file:{place}
Listen 127.0.0.1:{port}
ServerName hpc.example.org
{modules}
{manual}
"""
MODULES = (
    "mpm_event",
    "authn_core",
    "authn_file",
    "authz_core",
    "authz_user",
    "auth_basic",
    "alias",
    "headers",
    "proxy",
)


def block(language: str, place: Path, socket: str) -> str:
    """The manual's configuration, with the paths and the file of passwords of this test."""
    [text] = re.findall(rf"^```{language}\n(.*?)^```", MANUAL, re.DOTALL | re.MULTILINE)
    assert SOCKET in text
    return re.sub(r"/etc/\w+/twinlock\.htpasswd", f"{place}/passwords", text.replace(SOCKET, socket))


def make_passwords(place: Path) -> None:
    """A file with the passwords of two people, which is each one's name."""
    for user in ("ada", "games"):
        done = subprocess.run(["openssl", "passwd", "-apr1", user], capture_output=True, text=True, check=True)
        with (place / "passwords").open("a") as file:
            file.write(f"{user}:{done.stdout}")
    (place / "passwords").chmod(0o644)


@contextlib.contextmanager
def nginx(place: Path, socket: str, port: int) -> Iterator[None]:
    """It, with the manual's configuration."""
    config = place / "nginx.conf"
    config.write_text(NGINX.format(place=place, port=port, manual=block("nginx", place, socket)))
    yield from serving(["nginx", "-c", str(config), "-p", str(place)], port)


@contextlib.contextmanager
def apache(place: Path, socket: str, port: int) -> Iterator[None]:
    """It, with the manual's configuration."""
    folder = "/usr/lib/apache2/modules"
    modules = "\n".join(f"LoadModule {name}_module {folder}/mod_{name}.so" for name in (*MODULES, "proxy_http"))
    config = place / "apache.conf"
    config.write_text(APACHE.format(place=place, port=port, modules=modules, manual=block("apache", place, socket)))
    yield from serving(["apache2", "-D", "FOREGROUND", "-f", str(config)], port)


def serving(argv: list[str], port: int) -> Iterator[None]:
    """A web server, from when it accepts connections."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + LIMIT
        while not listens(port):
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.communicate(timeout=LIMIT)


def listens(port: int) -> bool:
    """Whether somebody listens there."""
    return f":{port:04X} " in Path("/proc/net/tcp").read_text()


Server = Callable[[Path, str, int], AbstractContextManager[None]]


@pytest.mark.parametrize(("program", "server"), [("nginx", nginx), ("apache2", apache)])
async def test_the_manuals_configuration(site: Site, unused_tcp_port: int, program: str, server: Server) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"needs {program}")
    place = site.runtime / "web"
    place.mkdir()
    make_passwords(place)
    own = {"socket_group": "www-data", "hosts": (NAME,), "administrators": ("ada",)}
    async with console(site.runtime, site.runtime / "readers.sock", **own) as page:  # type: ignore[arg-type]
        with server(place, page.address, unused_tcp_port):
            await check(f"http://127.0.0.1:{unused_tcp_port}/twinlock")


async def check(address: str) -> None:
    """What has to hold behind each web server."""
    login = {"Host": NAME, "Authorization": "Basic " + base64.b64encode(b"games:games").decode()}
    forged = [("X-Remote-User", "ada"), ("x-remote-user", "root"), ("X_Remote_User", "ada")]
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{address}/", headers={"Host": NAME}) as answer:
            assert answer.status == 401
        async with session.get(address, headers=login, allow_redirects=False) as answer:
            assert answer.status in (301, 302)
            assert answer.headers["Location"].endswith("/twinlock/")
        async with session.get(f"{address}/", headers=login) as answer:
            assert (answer.status, "default-src 'none'" in answer.headers["Content-Security-Policy"]) == (200, True)
        for headers in ([*login.items()], [*login.items(), *forged]):
            async with session.get(f"{address}/api/viewer", headers=headers) as answer:
                found = await answer.json()
                assert (found["user"], found["administrator"]) == ("games", False)
        async with session.get(f"{address}/api/viewer", headers=login | {"Host": "evil.example"}) as answer:
            assert answer.status == 421
        async with session.get(f"{address}/api/events", headers=login) as answer:
            events = Events(answer.content)
            for _ in range(2):  # each as it comes, not when much has been collected
                assert (await events.until("state"))["endpoints"] == []
