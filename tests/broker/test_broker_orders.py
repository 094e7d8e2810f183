"""`twinlock block`, `unblock`, `drain`, `resume` and `stop --user`, as an administrator types them."""

import asyncio
import contextlib
import json
import logging
import os
import pwd
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from broker_process import MAPPED, Broker, broker_place, command, running_spawner, start_command, variables
from broker_rabbit import Rabbit
from broker_rest import rest_service
from broker_rig import MANAGER, UEP, Told, endpoint_user, numbered, request
from failing_disk import fail_syncs_of_folders
from globus_compute_common import messagepack
from spawner_rig import uep
from twinlock_broker.audit import AuditLog
from twinlock_broker.control import orders
from twinlock_broker.control.admin import Admin
from twinlock_broker.control.canary import CanaryReports
from twinlock_broker.control.details import Details
from twinlock_broker.control.listener import listening
from twinlock_broker.control.orders import Orders
from twinlock_broker.control.sessions import Sessions
from twinlock_broker.endpoints.admission import Admission, Entry
from twinlock_broker.endpoints.launcher import Launcher
from twinlock_broker.endpoints.store import Store
from twinlock_broker.endpoints.supervisor import Supervisor
from twinlock_broker.logs import Recent
from twinlock_broker.spawner.client import SpawnerClient

TWINLOCK = Path(sys.executable).with_name("twinlock")
CALLER = pwd.getpwuid(os.getuid()).pw_name


class Site:
    """A supervisor with its admin socket, and the audit of a high assurance endpoint."""

    def __init__(self, supervisor: Supervisor, admission: Admission, folder: Path) -> None:
        self.supervisor = supervisor
        self.admission = admission
        self.folder = folder

    async def twinlock(self, *words: str) -> tuple[int, str, str]:
        """The command's exit code, and what it prints."""
        process = await self.begin(*words)
        out, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode is not None
        return process.returncode, out.decode(), errors.decode()

    async def begin(self, *words: str) -> asyncio.subprocess.Process:
        """The command, while it runs."""
        pipe = asyncio.subprocess.PIPE
        socket = ("--socket", str(self.folder / "admin.sock"))
        return await asyncio.create_subprocess_exec(TWINLOCK, *words, *socket, stdout=pipe, stderr=pipe)

    async def ask(self, line: str) -> dict[str, object]:
        """The admin socket's answer."""
        reader, writer = await asyncio.open_unix_connection(self.folder / "admin.sock")
        writer.write(line.encode() + b"\n")
        answer = await asyncio.wait_for(reader.readline(), 60)
        writer.close()
        found: dict[str, object] = json.loads(answer)
        return found


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path a socket can have."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        yield Path(name)


@pytest.fixture
async def site(client: SpawnerClient, told: Told, folder: Path) -> AsyncIterator[Site]:
    """The site."""
    admission, audit = Admission(folder / "admission.json"), AuditLog(folder / "audit.log", MANAGER)
    launcher = Launcher(client, {}, folder / "endpoints", admission)
    supervisor = Supervisor(MANAGER, 30.0, launcher, Store(folder / "endpoints", None), told.send)
    about = {"endpoint": MANAGER, "name": "ep", "started": time.time(), "spawner_connected": True}
    details = Details(supervisor, Recent())
    orders = Orders(admission, audit)
    admin = Admin(supervisor, Sessions(supervisor, audit), lambda: about, orders, details, CanaryReports())
    running = asyncio.create_task(client.run(supervisor))
    async with listening(folder / "admin.sock", 0o600, admin.serve):
        await asyncio.wait_for(client.ready.wait(), 60)
        yield Site(supervisor, admission, folder)
    running.cancel()
    await asyncio.wait((running,))
    await audit.close()


async def test_block_and_unblock(site: Site, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await site.twinlock("block", endpoint_user(), "--reason", "call the help desk") == (
        0,
        f"{endpoint_user()} is blocked\n",
        "",
    )
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    assert "call the help desk" in await told.next()
    _, shown, _ = await site.twinlock("status")
    assert re.search(rf"\nblocked: {endpoint_user()}, since \S+ \S+ by {CALLER}.*: call the help desk\n", shown)
    for kept in (caplog.text, (site.folder / "audit.log").read_text()):
        assert re.search(rf"order: block {endpoint_user()}, given by {CALLER}.*: call the help desk", kept)
    assert await site.twinlock("unblock", endpoint_user()) == (0, f"{endpoint_user()} is no longer blocked\n", "")
    assert "blocked" not in (await site.twinlock("status"))[1]
    status, _, errors = await site.twinlock("unblock", endpoint_user())
    assert (status, errors) == (
        os.EX_DATAERR,
        f"twinlock: {endpoint_user()!r} isn't blocked; blocked accounts: none\n",
    )


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("begin", "end", "offered"),
    [("unblock", "", "ada"), ("block", "", endpoint_user()), ("stop", "--user ", endpoint_user())],
)
async def test_names_are_completed(site: Site, begin: str, end: str, offered: str) -> None:
    await site.admission.block("ada", Entry("why not", "root"))
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    line = f"twinlock {begin} --socket {site.folder / 'admin.sock'} {end}"
    environment = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", f"'{TWINLOCK}' 8>&1 9>/dev/null", env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert offered in out.decode().replace("\v", "\n").split()


async def test_a_name_that_is_no_account_is_blocked_only_in_advance(site: Site) -> None:
    status, _, errors = await site.twinlock("block", "twl-nobody-yet")
    assert (status, "no account 'twl-nobody-yet'" in errors) == (os.EX_NOUSER, True)
    assert site.admission.blocked == {}
    assert (await site.twinlock("block", "twl-nobody-yet", "--force"))[0] == 0
    assert list(site.admission.blocked) == ["twl-nobody-yet"]


async def test_a_block_leaves_running_endpoints_unless_they_are_to_stop(site: Site, told: Told) -> None:
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    status, out, _ = await site.twinlock("block", endpoint_user())
    assert (status, f"still running: {UEP}" in out) == (0, True)
    assert told.notices == []
    status, out, _ = await site.twinlock("block", endpoint_user(), "--reason", "misuse", "--stop")
    assert (status, f"{UEP} of {endpoint_user()} is ending" in out) == (0, True)
    assert "is blocked at this endpoint: misuse" in await told.next()


async def test_stop_user_ends_all_that_the_account_has(site: Site) -> None:
    for number in (1, 2):
        await site.supervisor.command(numbered(number, endpoint_user()))
    status, _, errors = await site.twinlock("stop", "--user", "somebody-else")
    assert (status, errors) == (
        os.EX_DATAERR,
        f"twinlock: 'somebody-else' has no endpoint; there are endpoints of: {endpoint_user()}\n",
    )
    status, out, _ = await site.twinlock("stop", "--user", endpoint_user())
    assert (status, out.splitlines()) == (0, [f"{uep(number)} of {endpoint_user()} is ending" for number in (1, 2)])


async def test_an_endpoint_to_stop_is_named_by_four_characters_that_are_its_alone(site: Site) -> None:
    await site.supervisor.command(numbered(1, endpoint_user()))
    only = uep(1)
    status, _, errors = await site.twinlock("stop", only[:3])
    assert (status, errors) == (
        os.EX_DATAERR,
        f"twinlock: {only[:3]!r} is too short, give at least 4 characters; there are: {only}\n",
    )
    _, _, errors = await site.twinlock("stop", "ffff")
    assert errors == f"twinlock: no endpoint's uuid begins with 'ffff'; there are: {only}\n"
    await site.supervisor.command(numbered(2, endpoint_user()))
    _, _, errors = await site.twinlock("stop", only[:4])
    assert errors == (
        f"twinlock: more than one endpoint's uuid begins with {only[:4]!r}; there are: {only}, {uep(2)}\n"
    )
    assert await site.twinlock("stop", only) == (0, f"{only} of {endpoint_user()} is ending\n", "")


@pytest.mark.parametrize("words", [(), ("7b1f", "--user", "ada")])
async def test_stop_wants_either_an_endpoint_or_a_user(site: Site, words: tuple[str, ...]) -> None:
    assert (await site.twinlock("stop", *words))[0] == 100


async def test_drain_waits_for_the_last_endpoint(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    waiting = await site.begin("drain", "--reason", "new kernel")
    assert waiting.stdout is not None
    assert b"no more endpoints are started" in await asyncio.wait_for(waiting.stdout.readline(), 60)
    progress = await asyncio.wait_for(waiting.stdout.readline(), 60)
    assert progress.decode() == f"waiting for {endpoint_user()} {UEP[:8]} (not connected)\n"
    assert "\nDRAINING, nothing is started: since " in (await site.twinlock("status"))[1]
    await site.twinlock("stop", UEP)
    out, _ = await asyncio.wait_for(waiting.communicate(), 60)
    assert (waiting.returncode, out) == (0, b"drained: no endpoint is left\n")
    assert await site.twinlock("resume") == (0, "endpoints are started again\n", "")
    assert await site.twinlock("resume") == (0, "there was no drain; endpoints are started\n", "")


async def test_a_drain_goes_on_after_its_time_and_after_ctrl_c(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    status, _, errors = await site.twinlock("drain", "--timeout", "0")
    assert (status, "not drained in time; the drain goes on" in errors) == (os.EX_TEMPFAIL, True)
    assert site.admission.drain is not None
    waiting = await site.begin("drain")
    assert waiting.stdout is not None
    await asyncio.wait_for(waiting.stdout.readline(), 60)
    await asyncio.wait_for(waiting.stdout.readline(), 60)
    waiting.send_signal(signal.SIGINT)
    out, errors_after = await asyncio.wait_for(waiting.communicate(), 60)
    assert (waiting.returncode, b"the drain goes on" in out, errors_after) == (130, True, b"")
    assert site.admission.drain is not None


async def test_a_drain_that_somebody_ends_is_no_success(site: Site) -> None:
    await site.supervisor.command(request(endpoint_user(), "sleep"))
    waiting = await site.begin("drain")
    assert waiting.stdout is not None
    await asyncio.wait_for(waiting.stdout.readline(), 60)
    await site.twinlock("resume")
    _, errors = await asyncio.wait_for(waiting.communicate(), 60)
    assert (waiting.returncode, b"somebody has ended the drain" in errors) == (os.EX_TEMPFAIL, True)


@pytest.mark.parametrize("seconds", ["nan", "-1", "soon"])
async def test_a_time_that_is_none_is_refused(site: Site, seconds: str) -> None:
    assert (await site.twinlock("drain", f"--timeout={seconds}"))[0] == 100
    assert site.admission.drain is None


async def test_a_reason_is_one_line_of_bounded_length(site: Site) -> None:
    await site.twinlock("block", endpoint_user(), "--reason", "one\n\x1b[31mtwo" + "x" * 10_000)
    reason = site.admission.blocked[endpoint_user()].reason
    assert reason.startswith("one  [31mtwo")
    assert len(reason) == 500


async def test_what_cant_be_written_is_said_and_not_in_force(site: Site) -> None:
    (site.folder / "admission.new").mkdir()  # in the way of the draft
    for words in (("block", endpoint_user()), ("drain",)):
        status, out, errors = await site.twinlock(*words)
        assert (status, out) == (os.EX_CANTCREAT, "")
        assert "the broker can't write its state folder: Is a directory; nothing was changed" in errors
    assert (site.admission.blocked, site.admission.drain) == ({}, None)


async def test_what_a_power_cut_may_undo_is_said_and_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    fail_syncs_of_folders(monkeypatch)
    status, out, errors = await site.twinlock("block", endpoint_user())
    assert (status, out) == (os.EX_CANTCREAT, "")
    assert "the broker's disk fails: Input/output error; in force, but a power cut may undo it" in errors
    assert set(site.admission.blocked) == set(Admission(site.folder / "admission.json").blocked) == {endpoint_user()}
    assert f"order: block {endpoint_user()}, given by" in caplog.text


async def test_what_the_disk_takes_late_is_in_force_from_then_on(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    awake, fsync = threading.Event(), os.fsync

    def sync_when_awake(opened: int) -> None:
        awake.wait(60)
        fsync(opened)

    monkeypatch.setattr(os, "fsync", sync_when_awake)
    monkeypatch.setattr(orders, "WRITE_LIMIT", 0.5)
    for name in ("ada", "bob"):
        status, _, errors = await site.twinlock("block", name, "--force")
        assert status == os.EX_CANTCREAT
        assert "the broker's disk doesn't answer: not in force yet; it will be when the disk answers" in errors
    assert site.admission.blocked == {}
    awake.set()
    async with asyncio.timeout(60):
        while not all(f"order: block {name}, given by" in caplog.text for name in ("ada", "bob")):
            await asyncio.sleep(0.01)
    assert set(site.admission.blocked) == set(Admission(site.folder / "admission.json").blocked) == {"ada", "bob"}


@pytest.mark.parametrize(
    "line",
    [
        '{"request": "block"}',
        '{"request": "block", "user": 1, "reason": "x"}',
        '{"request": "drain"}',
        '{"request": []}',
    ],
)
async def test_orders_that_lack_something_change_nothing(site: Site, line: str) -> None:
    assert "error" in await site.ask(line)
    assert (site.admission.blocked, site.admission.drain) == ({}, None)


@pytest.mark.parametrize(
    "words", [("block", CALLER), ("unblock", "ada"), ("drain",), ("resume",), ("stop", "--user", "x")]
)
async def test_without_a_broker_the_commands_say_so(folder: Path, words: tuple[str, ...]) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(TWINLOCK, *words, "--socket", folder / "none.sock", stderr=pipe)
    _, errors = await asyncio.wait_for(process.communicate(), 60)
    assert (process.returncode, b"no broker there" in errors) == (os.EX_UNAVAILABLE, True)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with an endpoint's folder and a state folder in it."""
    with broker_place() as made:
        yield made


@contextlib.asynccontextmanager
async def killed(broker: Broker) -> AsyncIterator[None]:
    """The broker dies at once after the block."""
    yield
    broker.process.kill()
    await broker.process.wait()


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_a_block_outlives_a_broker_that_is_killed(rabbit: Rabbit, place: Path) -> None:
    policy = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}
    argv = (TWINLOCK, "block", MAPPED, "--reason", "call the help desk", "--socket", place / "state" / "admin.sock")
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, policy) as spawner:
        async with Broker.running(place, spawner, service) as first, killed(first):
            await rabbit.take("beats")
            process = await asyncio.create_subprocess_exec(*argv)
            assert await asyncio.wait_for(process.wait(), 60) == 0
        async with Broker.running(place, spawner, service) as second:
            await rabbit.take("beats")
            await start_command(rabbit)
            notice = messagepack.unpack(await rabbit.take("beats"))
            assert "'daemon' is blocked at this endpoint: call the help desk" in notice.global_state["error"]
            await second.stop()
            await rabbit.take("beats")
        assert not any(line["event"] == "spawned" for line in spawner.audit())


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_a_broker_whose_orders_cant_be_read_doesnt_start(rabbit: Rabbit, place: Path) -> None:
    (place / "state" / "admission.json").write_text("{")
    (place / "broker.yaml").write_text("")
    with rest_service(rabbit.url, MANAGER) as service:
        process = await asyncio.create_subprocess_exec(
            *command(place), stderr=asyncio.subprocess.PIPE, env=variables(service), cwd="/"
        )
        _, errors = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == os.EX_CONFIG
        assert b"admission.json: the blocked accounts can't be read" in errors
        assert service.asked == [], "it didn't even register"
