"""The broker at work: the order in which its parts are started, and how they end."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import setproctitle
from twinlock_common.document import Entries
from twinlock_common.notify import notify, tell_systemd

from twinlock_broker.audit import auditing
from twinlock_broker.beside import all_set, running, unless_failed
from twinlock_broker.compute.command_queue import CommandQueue
from twinlock_broker.compute.heartbeat import Heartbeat
from twinlock_broker.compute.login import Login
from twinlock_broker.compute.notices import Notices
from twinlock_broker.compute.outbox import Outbox
from twinlock_broker.compute.own_identities import own_identities
from twinlock_broker.compute.registration import Registration, register
from twinlock_broker.compute.renewal import Renewal
from twinlock_broker.config import placed, policies
from twinlock_broker.config.folder import Folder
from twinlock_broker.config.settings import Settings
from twinlock_broker.config.state import remember
from twinlock_broker.control.admin import Admin
from twinlock_broker.control.canary import CanaryReports
from twinlock_broker.control.details import Details
from twinlock_broker.control.endpoint_metrics import UserEndpoints
from twinlock_broker.control.exporter import exporting
from twinlock_broker.control.head import Head
from twinlock_broker.control.listener import listening
from twinlock_broker.control.orders import Orders
from twinlock_broker.control.readers import Readers
from twinlock_broker.control.sessions import Sessions
from twinlock_broker.control.users import Users
from twinlock_broker.endpoints.admission import FILE, Admission
from twinlock_broker.endpoints.drain import Drain
from twinlock_broker.endpoints.handler import CommandHandler
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.lifecycle import Tell
from twinlock_broker.endpoints.pipeline import StartPipeline, StartRequest
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.errors import Fatal
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.resolver import Resolver
from twinlock_broker.identity.watch import watch
from twinlock_broker.logs import Recent
from twinlock_broker.spawner.client import SpawnerClient

log = logging.getLogger(__name__)

_OURS = "endpoint"
"""The name of Twinlock's own user endpoint in example policies."""


async def serve(settings: Settings, folder: Folder, login: Login, recent: Recent) -> None:
    """Be the manager endpoint until SIGTERM or SIGINT, and leave user endpoints alone then. Raise `Fatal`.

    `recent` are the last lines of the log.
    """
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    work = asyncio.create_task(_work(settings, folder, login, recent))
    stopped = asyncio.create_task(stop.wait())
    await asyncio.wait((work, stopped), return_when=asyncio.FIRST_COMPLETED)
    for task in (work, stopped):
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def _work(settings: Settings, folder: Folder, login: Login, recent: Recent) -> None:
    admission = Admission(settings.state / FILE)
    renewal = Renewal(lambda known: register(folder, known, login))
    registration = await _register(renewal, settings, folder)
    notices = Notices(Outbox(settings.state / "notices", folder.settings["amqp_port"]))
    spawner = SpawnerClient(settings.spawner_socket)
    _warn_of_no_audit(folder)
    async with auditing(folder.audit_path, registration.endpoint_id) as audit:
        launcher = _launcher(settings, folder, spawner, admission)
        supervisor = _supervisor(settings, folder, registration, launcher, notices.send)
        sessions = Sessions(supervisor, audit)
        head = Head(registration.endpoint_id, folder.path.name, spawner, launcher)
        orders, details = Orders(admission, audit), Details(supervisor, recent)
        canary = CanaryReports()
        admin = Admin(supervisor, sessions, head.for_administrators, orders, details, canary)
        users = Users(supervisor, sessions, head.for_users, audit)
        readers = Readers(settings.readers, admin.status, supervisor.failures)
        drain = Drain(supervisor, admission, lambda endpoint: sessions.figures(endpoint) is not None)
        async with (
            exporting(settings.metrics, UserEndpoints(supervisor, sessions.told), canary),
            listening(settings.admin_socket, 0o600, admin.serve),
            listening(settings.users_socket, 0o666, users.serve),
            _serving_readers(settings, readers),
            running(notices.run()),
            running(drain.run()),
            running(spawner.run(supervisor)) as link,
        ):
            await unless_failed([link], spawner.ready.wait())
            # Not earlier: an endpoint that connects is known only by what the spawner has listed.
            async with listening(settings.control_socket, 0o666, sessions.serve):
                who = await _who(spawner, folder, registration, login)
                _warn_of_variables(folder, settings.program)
                resolver = Resolver(who, settings.allow_groups)
                pipeline = StartPipeline(folder, settings.program, resolver, audit, marks_jobs=settings.mark_jobs)
                port = folder.settings["amqp_port"]

                async def start(request: StartRequest) -> None:
                    notices.forget(request.id)
                    await supervisor.command(request)

                handler = CommandHandler(
                    registration.endpoint_id, port, pipeline, start, notices.send, supervisor.failures
                )
                async with running(watch(who) if isinstance(who, Mapper) else asyncio.sleep(0)):
                    await _serve_commands(renewal, folder, handler, supervisor, link, spawner.ready, head)


async def _serve_commands(
    renewal: Renewal,
    folder: Folder,
    handler: CommandHandler,
    supervisor: Supervisor,
    link: asyncio.Task[None],
    spawner_ready: asyncio.Event,
    head: Head,
) -> None:
    commands = CommandQueue(renewal, handler.handle)
    heartbeat = Heartbeat(renewal, folder.settings["heartbeat_period"])
    head.links = {"commands": lambda: commands.connected, "heartbeats": lambda: heartbeat.connected}
    try:
        async with running(commands.run()) as consumer, running(heartbeat.run()) as heart:
            parts = [link, consumer, heart]
            await unless_failed(parts, all_set(spawner_ready, commands.ready, heartbeat.first))
            _announce(renewal.current)
            await unless_failed(parts, tell_systemd(supervisor.summary))
    finally:
        notify("STOPPING=1")
        await commands.stop()
        handler.close()
        await supervisor.settle()
        await heartbeat.say_goodbye()


def _serving_readers(settings: Settings, readers: Readers) -> AbstractAsyncContextManager[None]:
    """Return a block with the readers' socket, if the administrator has named any readers."""
    if not settings.readers:
        return contextlib.nullcontext()
    return listening(settings.readers_socket, 0o666, readers.serve)


def _launcher(settings: Settings, folder: Folder, spawner: SpawnerClient, admission: Admission) -> Launcher:
    told: Entries = {"control": str(settings.control_socket), "audited": folder.audit_path is not None}
    return Launcher(spawner, told, _kept(settings), admission, _mode(settings, folder))


def _supervisor(
    settings: Settings, folder: Folder, registration: Registration, launcher: Launcher, tell: Tell
) -> Supervisor:
    store = Store(_kept(settings), folder.settings["amqp_port"])
    grace = folder.settings["mu_child_ep_grace_period_s"]
    return Supervisor(registration.endpoint_id, grace, launcher, store, tell)


def _kept(settings: Settings) -> Path:
    """Return the folder of what is kept of each endpoint."""
    return settings.state / "endpoints"


def _mode(settings: Settings, folder: Folder) -> Callable[[str], policies.Mode | None]:
    """Return what says in which mode a program runs, as far as the policy may be read here."""
    near = placed.find(folder.path, settings.state).policy
    return lambda program: policies.mode_behind(settings.spawner_socket, program, near)


def _warn_of_variables(folder: Folder, program: str) -> None:
    """Warn that the spawner's policy decides whether a program other than ours gets the site's variables."""
    if program != _OURS and folder.read_environment():
        advice = "the program %r gets the variables of user_environment.yaml only if the policy starts it with %s"
        log.warning(advice, program, "twinlock-endpoint --agent")


def _warn_of_no_audit(folder: Folder) -> None:
    """Warn of a high assurance endpoint without an audit log."""
    if folder.audit_path is None and folder.settings["high_assurance"]:
        log.warning("high_assurance without audit_log_path: no task event is audited")


async def _register(renewal: Renewal, settings: Settings, folder: Folder) -> Registration:
    found = await renewal.first(folder.endpoint_id(settings.state))
    remember(settings.state, found.endpoint_id)
    setproctitle.setproctitle(f"twinlock-broker [{found.endpoint_id}]")
    log.info("registered as endpoint %s", found.endpoint_id)
    return found


async def _who(
    spawner: SpawnerClient, folder: Folder, registration: Registration, login: Login
) -> Mapper | frozenset[str]:
    """Return whom the endpoint serves: everybody who is mapped, or in same-user mode the identities of the login."""
    path = folder.mapping_path
    if spawner.peer is not None and spawner.peer.is_root:
        if path is None:
            raise Fatal(
                os.EX_CONFIG,
                f"{folder.path / 'config.yaml'}: identity_mapping_config_path is missing; with a privileged spawner it "
                "says which identity is which local account",
            )
        return Mapper(path, registration.endpoint_id)
    if path is not None:
        log.warning("same-user mode: %s is not used, only the login's own identities are served", path)
    return await own_identities(folder, login)


def _announce(registration: Registration) -> None:
    print(f"twinlock-broker ready, endpoint {registration.endpoint_id}", flush=True)
    notify("READY=1")
