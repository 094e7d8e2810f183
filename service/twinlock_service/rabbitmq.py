"""
A private RabbitMQ node on loopback (`--amqp auto`), with an Erlang port mapper of its own; both end with the service.

The node runs as the user `rabbitmq` where the service is root, else as the service's user. STATE/rabbitmq holds what
the service writes, STATE/rabbitmq/node what the node writes: root writes nothing where another user could have put a
link. The ports are chosen once and kept, so that clients find the node again after a restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import pwd
import random
import secrets
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from twinlock_service.errors import StartError
from twinlock_service.files import open_private
from twinlock_service.management import Management, ManagementError
from twinlock_service.processes import Process, end_stale, stop

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's. The one on PATH is a wrapper that takes its settings from /etc and runs as root only."""

VHOST = "twinlock"
ADMIN = "twinlock-admin"
START_SECONDS = 90.0
STOP_SECONDS = 15.0

PORTS = range(20000, 32000)
"""Below Linux's ephemeral ports: a client that calls a closed one of those can get connected to itself, and hold it."""

MAX_MESSAGE = 48 * 1024 * 1024
"""Bytes of a message: a task's function and arguments, or a result, whose limits are smaller."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The node's TCP ports, all on 127.0.0.1."""

    amqp: int
    management: int
    distribution: int
    epmd: int


@dataclass(frozen=True, slots=True)
class Node:
    """A node that runs. The URLs hold the administrator's login."""

    url: URL
    management_url: URL
    server: Process


@asynccontextmanager
async def private_node(state: Path) -> AsyncIterator[Node]:
    """
    Starts the node, waits until it answers, ends it with the block. What a killed service left behind is ended first.

    StartError: RabbitMQ isn't installed, can't use the folder, or did not start; the text has its last words.
    """
    folder = state / "rabbitmq"
    account = _account()
    _check_installed()
    end_stale(folder / "processes.json", STOP_SECONDS)
    _prepare_folder(folder, account)
    async with contextlib.AsyncExitStack() as stack:
        ports, password = _ports(folder, stack), _password(folder)
        _write_config(folder, ports, password, account)
        epmd = await _start(folder, account, ports, ["epmd", "-address", "127.0.0.1", "-port", str(ports.epmd)])
        stack.push_async_callback(stop, epmd, STOP_SECONDS)
        server = await _start(folder, account, ports, [str(SERVER)])
        stack.push_async_callback(stop, server, STOP_SECONDS)
        with open_private(folder / "processes.json") as file:
            json.dump([asdict(each.identity) for each in (server, epmd)], file)
        login = URL.build(scheme="amqp", user=ADMIN, password=password, host="127.0.0.1", port=ports.amqp)
        management = login.with_scheme("http").with_port(ports.management)
        await _wait_ready(management, ports.amqp, server, folder)
        yield Node(login / VHOST, management, server)


def _check_installed() -> None:
    missing = [name for name in ("epmd", "setpriv") if shutil.which(name) is None]
    if missing or not SERVER.exists():
        text = "`--amqp auto` needs RabbitMQ on this machine; install it (Debian: apt-get install rabbitmq-server)"
        raise StartError(
            os.EX_UNAVAILABLE, f"{text}, or name a server with --amqp amqp://USER:PASSWORD@HOST:PORT/VHOST"
        )


def _account() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("rabbitmq") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    except KeyError:
        text = "there is no user `rabbitmq`; it comes with Debian's package rabbitmq-server"
        raise StartError(os.EX_UNAVAILABLE, text) from None


def _prepare_folder(folder: Path, account: pwd.struct_passwd) -> None:
    for each in (folder, folder / "node"):
        each.mkdir(mode=0o700, exist_ok=True)
    if os.geteuid() == 0:
        # The node's user has to get through to its own folder; the files beside it are closed one by one.
        for above in (folder.parent, folder):
            above.chmod(0o711)
        os.chown(folder / "node", account.pw_uid, account.pw_gid)
        for above in folder.parents:
            if not above.stat().st_mode & 0o001:
                text = f"the user `rabbitmq` can't enter {above}; choose a --state that it can reach"
                raise StartError(os.EX_CANTCREAT, text)


def _ports(folder: Path, claims: contextlib.AsyncExitStack) -> Ports:
    file = folder / "ports.json"
    if not file.exists():
        chosen = Ports(*free_ports(4, claims))
        with open_private(file) as new:
            json.dump(asdict(chosen), new)
        return chosen
    ports = Ports(**json.loads(file.read_text()))
    for port in asdict(ports).values():
        if not (_is_free(port) and _claim(port, claims)):
            text = f"port {port} of the private RabbitMQ node is in use by another program"
            raise StartError(os.EX_UNAVAILABLE, f"{text}; end that, or remove {file} to have other ports chosen")
    return ports


def free_ports(count: int, claims: contextlib.AsyncExitStack) -> list[int]:
    """Ports that nobody listens on, and no other service is about to: a node takes a while until it does."""
    candidates = random.sample(PORTS, k=len(PORTS))
    free = (port for port in candidates if _is_free(port) and _claim(port, claims))
    return list(itertools.islice(free, count))


def _claim(port: int, claims: contextlib.AsyncExitStack) -> bool:
    """Whether no other service has the port, whose node it is until `claims` end.

    It is a name among the abstract ones (unix(7)): they are of the same network as the ports, and free again with the
    end of whoever has them.
    """
    claim = claims.enter_context(socket.socket(socket.AF_UNIX))
    try:
        claim.bind(f"\0twinlock-service rabbitmq {port}")
    except OSError:
        return False
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _password(folder: Path) -> str:
    definitions = folder / "definitions.json"
    if definitions.exists():
        return str(json.loads(definitions.read_text())["users"][0]["password"])
    return secrets.token_urlsafe(24)


def _write_config(folder: Path, ports: Ports, password: str, account: pwd.struct_passwd) -> None:
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    definitions = {
        "users": [{"name": ADMIN, "password": password, "tags": "administrator"}],
        "vhosts": [{"name": VHOST}],
        "permissions": [{"user": ADMIN, "vhost": VHOST, **everything}],
    }
    config = {
        "listeners.tcp.1": f"127.0.0.1:{ports.amqp}",
        "management.tcp.ip": "127.0.0.1",
        "management.tcp.port": ports.management,
        "max_message_size": MAX_MESSAGE,
        "load_definitions": folder / "definitions.json",
        "distribution.listener.interface": "127.0.0.1",
        # At this much memory RabbitMQ stops everybody who publishes; some tasks of 10 MiB at once take 600 MB.
        "vm_memory_high_watermark.relative": "0.4",
        "disk_free_limit.absolute": "200MB",
    }
    texts = {
        "definitions.json": json.dumps(definitions),
        "rabbitmq.conf": "".join(f"{key} = {value}\n" for key, value in config.items()),
        "enabled_plugins": "[rabbitmq_management].\n",
    }
    for name, text in texts.items():
        with open_private(folder / name) as file:
            if os.geteuid() == 0:
                os.fchown(file.fileno(), 0, account.pw_gid)
                os.fchmod(file.fileno(), 0o640)
            file.write(text)


async def _start(folder: Path, account: pwd.struct_passwd, ports: Ports, argv: Sequence[str]) -> Process:
    # pdeathsig: should the service be killed, the kernel ends its children.
    drop = ["setpriv", "--pdeathsig", "TERM"]
    if os.geteuid() == 0:
        drop += ["--reuid", str(account.pw_uid), "--regid", str(account.pw_gid), "--init-groups"]
    with open_private(folder / "console.log", "ab") as log:
        child = await asyncio.create_subprocess_exec(
            *drop,
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=folder / "node",
            env=_environment(folder, ports),
            start_new_session=True,
        )
    return Process(child)


def _environment(folder: Path, ports: Ports) -> dict[str, str]:
    node = folder / "node"
    return {
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "HOME": str(node),
        "RABBITMQ_BASE": str(node),
        "RABBITMQ_NODENAME": f"twinlock-{ports.amqp}@localhost",
        "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
        "RABBITMQ_MNESIA_BASE": str(node / "mnesia"),
        "RABBITMQ_LOG_BASE": str(node / "log"),
        "RABBITMQ_PID_FILE": str(node / "server.pid"),
        "RABBITMQ_DIST_PORT": str(ports.distribution),
        "ERL_EPMD_PORT": str(ports.epmd),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        # No busy waiting: on a small machine the node shares its cores with what it serves.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
        # Makes the start script exec the node, so that the child's pid is the node's and SIGTERM reaches it.
        "RUNNING_UNDER_SYSTEMD": "true",
    }


async def _wait_ready(url: URL, port: int, server: Process, folder: Path) -> None:
    begun = said = time.monotonic()
    print("twinlock-service: starting a private RabbitMQ node, some 10 s", file=sys.stderr, flush=True)
    async with aiohttp.ClientSession() as session:
        management = Management(session, url, VHOST)
        while time.monotonic() - begun < START_SECONDS:
            with contextlib.suppress(ManagementError, OSError):
                return await _answers(management, port)
            if server.ended:
                break
            if time.monotonic() - said >= 5:
                said = time.monotonic()
                print(f"twinlock-service: waiting for RabbitMQ, {said - begun:.0f} s", file=sys.stderr, flush=True)
            await asyncio.sleep(0.25)
    raise StartError(
        os.EX_UNAVAILABLE, f"the private RabbitMQ node did not start; its last words:\n{_last_words(folder)}"
    )


async def _answers(management: Management, port: int) -> None:
    """Raises unless both ways in are open: a node that boots opens its management first, AMQP and rights later."""
    await management.ping()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


def _last_words(folder: Path) -> str:
    lines = (folder / "console.log").read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-15:])
