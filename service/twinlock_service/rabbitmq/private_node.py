"""A private RabbitMQ node on loopback (`--amqp auto`), with an Erlang port mapper of its own.

Both end with the service. They run as the user `rabbitmq` where the service is root, else as the service's user.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import shutil
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from yarl import URL

from twinlock_service.errors import StartError
from twinlock_service.rabbitmq.child_process import ChildProcess, end_stale, stop
from twinlock_service.rabbitmq.management import Management, ManagementError
from twinlock_service.rabbitmq.node_files import (
    ADMIN,
    VHOST,
    administrator_password,
    environment,
    prepare_folder,
    write_config,
)
from twinlock_service.rabbitmq.node_ports import Ports, kept_ports
from twinlock_service.state.private_files import open_private, replacing_private

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
"""Debian's. The one on PATH is a wrapper that takes its settings from /etc and runs as root only."""

START_SECONDS = 150.0
"""Seconds for the node to start; it takes ten, and most of this on a very busy host. The unit's limit is higher."""

STOP_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Node:
    """A node that runs."""

    url: URL
    """For AMQP, with the administrator's login."""
    management_url: URL
    """Of the management API, with the administrator's login."""
    server: ChildProcess
    """The process of RabbitMQ."""


@asynccontextmanager
async def private_node(state: Path) -> AsyncIterator[Node]:
    """Start the node, wait until it answers, and stop it when the block ends.

    First end the processes that a killed service left behind. Raise `StartError` if RabbitMQ isn't installed, can't use
    the folder, or did not start; the text has the last lines of its output.
    """
    folder = state / "rabbitmq"
    account = _account()
    _check_installed()
    end_stale(folder / "processes.json", STOP_SECONDS)
    prepare_folder(folder, account)
    async with contextlib.AsyncExitStack() as stack:
        ports, password = kept_ports(folder, stack), administrator_password(folder)
        write_config(folder, ports, password, account)
        epmd = await _start(folder, account, ports, ["epmd", "-address", "127.0.0.1", "-port", str(ports.epmd)])
        stack.push_async_callback(stop, epmd, STOP_SECONDS)
        server = await _start(folder, account, ports, [str(SERVER)])
        stack.push_async_callback(stop, server, STOP_SECONDS)
        with replacing_private(folder / "processes.json") as file:
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


async def _start(folder: Path, account: pwd.struct_passwd, ports: Ports, argv: Sequence[str]) -> ChildProcess:
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
            env=environment(folder, ports),
            start_new_session=True,
        )
    return ChildProcess(child)


async def _wait_ready(url: URL, port: int, server: ChildProcess, folder: Path) -> None:
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
    """Raise an exception unless the management API and AMQP both answer.

    A node that starts opens its management API first, and AMQP and permissions later.
    """
    await management.ping()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


def _last_words(folder: Path) -> str:
    lines = (folder / "console.log").read_text(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-15:])
