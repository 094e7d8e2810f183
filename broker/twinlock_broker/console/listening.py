"""Where the console listens: a Unix socket of the web server's group, or a port on loopback."""

import grp
import os
import socket
from pathlib import Path

from aiohttp import web

from twinlock_broker.console.keys import Settings
from twinlock_broker.errors import Fatal
from twinlock_broker.unix_socket import listening_socket

_BACKLOG = 128
_MODE = 0o660


async def listen(runner: web.AppRunner, settings: Settings) -> None:
    """Begin to serve. Raise `Fatal` (67, 73) if that can't be."""
    await runner.setup()
    if settings.on_tcp:
        await _listen_on_port(runner, settings.listen)
    else:
        sock = _bind(Path(settings.listen), settings.socket_group)
        await web.SockSite(runner, sock, backlog=_BACKLOG).start()


async def _listen_on_port(runner: web.AppRunner, address: str) -> None:
    host, _, port = address.rpartition(":")
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port), backlog=_BACKLOG).start()
    except OSError as error:
        raise Fatal(os.EX_CANTCREAT, f"listen: {address}: {error.strerror or error}; choose another port") from error


def _bind(path: Path, group: str | None) -> socket.socket:
    gid = _gid(group)
    if _answers(path):
        raise Fatal(os.EX_CANTCREAT, f"listen: {path}: another console is running there; stop it, or set another path")
    try:
        return listening_socket(path, _MODE, _BACKLOG, gid)
    except OSError as error:
        raise Fatal(
            os.EX_CANTCREAT,
            f"listen: {path}: {error.strerror or error}; its folder has to be the console's, and socket_group one of "
            "the groups that it is in",
        ) from error


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as visitor:
        try:
            visitor.connect(os.fspath(path))
        except BlockingIOError:  # so many are waiting that it can't be another's
            return True
        except OSError:
            return False
        return True


def _gid(group: str | None) -> int | None:
    """Return the group's number; None for none, which leaves the socket to the console's own group."""
    if group is None:
        return None
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise Fatal(os.EX_NOUSER, f"socket_group: there is no group {group!r}; name the web server's") from error
