"""The service's life: its parts are started one after the other, and ended in the opposite order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import aiohttp
from twinlock_common.notify import notify
from yarl import URL

from twinlock_service.context import Context
from twinlock_service.errors import StartError
from twinlock_service.http_server.app import make_app
from twinlock_service.http_server.certificate import Certificate
from twinlock_service.http_server.connections import Runner
from twinlock_service.http_server.listening import given_certificate, listen
from twinlock_service.limits.connections import raise_descriptor_limit
from twinlock_service.rabbitmq.child_process import ChildProcess
from twinlock_service.rabbitmq.client import AmqpClient
from twinlock_service.rabbitmq.management import Management, ManagementError
from twinlock_service.rabbitmq.port_forwarding import hosted_ports
from twinlock_service.rabbitmq.server import Server, given_server, note_login, private_server
from twinlock_service.rabbitmq.topology import Topology
from twinlock_service.state.database import open_database
from twinlock_service.state.folder import state_folder
from twinlock_service.state.tokens import Tokens
from twinlock_service.tasks.forwarding import forward_backlog
from twinlock_service.tasks.handlers import handlers
from twinlock_service.users.directory import Users
from twinlock_service.users.users_file import RabbitmqEntry, read_users_file
from twinlock_service.users_watcher import UsersWatcher, warn_of_plain_tokens

log = logging.getLogger(__name__)

CONNECT_SECONDS = 30.0
"""How long the service waits for RabbitMQ when it starts."""


@dataclass(frozen=True, slots=True)
class Options:
    """The command line. Its URLs hold no login: others can read a command line."""

    host: str
    """The address to listen on."""
    port: int
    state: Path
    """The state folder."""
    users: Path
    """The users file."""
    amqp: URL | None
    """A RabbitMQ of the site, without a login; None for a private node."""
    amqp_management: URL | None
    """The management API of that RabbitMQ; None for its usual port."""
    amqp_ports: tuple[int, ...] | None = None
    """Ports on which clients reach the private node; None: the hosted service's, as far as they are free."""


async def serve(options: Options) -> None:
    """Run until SIGTERM or SIGINT cancels it. Raise `StartError` if it can't start, or its RabbitMQ node has died."""
    _cancel_on_signal()
    raise_descriptor_limit()
    document = read_users_file(options.users)
    certificate = given_certificate(document.service)
    warn_of_plain_tokens(options.users, document)
    async with AsyncExitStack() as stack:
        stack.enter_context(state_folder(options.state))
        rabbitmq = await _rabbitmq(stack, options, document.rabbitmq)
        note_login(options.state, rabbitmq)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        topology = Topology(Management(session, rabbitmq.management_url, rabbitmq.vhost), rabbitmq.url)
        await _within(_service_queues(topology), "RabbitMQ's management API")
        db = stack.enter_context(contextlib.closing(open_database(options.state / "service.sqlite")))
        amqp = AmqpClient(str(rabbitmq.url))
        context = Context(db, Users(document, Tokens(db).first_seen), topology, amqp)
        await stack.enter_async_context(_running(amqp.run(handlers(context))))
        await _within(amqp.connected(), "RabbitMQ")
        await stack.enter_async_context(_running(forward_backlog(context)))
        watcher = UsersWatcher(context, options.users)
        await _access_is_current(watcher)
        await stack.enter_async_context(_running(watcher.run()))
        if certificate is not None:
            await stack.enter_async_context(_running(certificate.follow()))
        if rabbitmq.node is not None:
            where = "127.0.0.1", rabbitmq.url.port or 0
            await stack.enter_async_context(hosted_ports(options.amqp_ports, *where))
        urls = await stack.enter_async_context(_listening(options, context, certificate))
        print(f"twinlock-service ready on {' and '.join(urls)}", flush=True)
        notify("READY=1")
        await _forever(rabbitmq.node)


def _cancel_on_signal() -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    numbers = (signal.SIGTERM, signal.SIGINT)

    def interrupt(*_: object) -> None:
        # Ignored from now on and until the process is gone: a second signal must not cut the clean-up short.
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        if task is not None:
            loop.call_soon_threadsafe(task.cancel)

    # Not by the event loop, which would give the signals their default effect back when it closes.
    for number in numbers:
        signal.signal(number, interrupt)


async def _rabbitmq(stack: AsyncExitStack, options: Options, login: RabbitmqEntry | None) -> Server:
    if options.amqp is None:
        return await stack.enter_async_context(private_server(options.state))
    if login is None:
        raise StartError(os.EX_CONFIG, f"users file {options.users} has no `rabbitmq` login, which --amqp URL needs")
    return given_server(options.amqp, options.amqp_management, login)


async def _service_queues(topology: Topology) -> None:
    try:
        await topology.service_queues()
    except ManagementError as error:
        raise StartError(os.EX_UNAVAILABLE, f"{error}; is the URL right, and the login an administrator's?") from None


async def _access_is_current(watcher: UsersWatcher) -> None:
    try:
        await watcher.cut_off()
    except ManagementError as error:
        raise StartError(os.EX_UNAVAILABLE, f"{error}; start the service again") from None


async def _within(awaited: Coroutine[Any, Any, None], what: str) -> None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            await awaited
    except TimeoutError:
        raise StartError(os.EX_UNAVAILABLE, f"{what} did not answer in {CONNECT_SECONDS:.0f} s") from None


@asynccontextmanager
async def _running(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})


def _log_failure(part: asyncio.Task[None]) -> None:
    """Log at once that a part has ended by an exception: nobody else looks at it."""
    if not part.cancelled() and part.exception() is not None:
        log.error("a part of the service ended unexpectedly; restart the service", exc_info=part.exception())


@asynccontextmanager
async def _listening(options: Options, context: Context, certificate: Certificate | None) -> AsyncIterator[list[str]]:
    """Serve HTTP, and with a certificate HTTPS, while the block runs; yield the URLs."""
    app = make_app(context, options.host)
    runner = Runner(app, shutdown_timeout=2)
    await runner.setup()
    try:
        yield await listen(runner, options.host, options.port, context.users.settings.tls_port, certificate)
    finally:
        await runner.cleanup()


async def _forever(node: ChildProcess | None) -> NoReturn:
    ended: Awaitable[int] = asyncio.get_running_loop().create_future() if node is None else node.wait()
    text = f"the private RabbitMQ node ended by itself (status {await ended}); start the service again"
    raise StartError(os.EX_UNAVAILABLE, text)
