"""The audit log of a high assurance endpoint: what stands in it, and that nobody takes it from the others."""

import asyncio
import contextlib
import os
import resource
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_rig import MANAGER, UEP, Told, endpoint_user, make_folder, message, own_credentials, request
from broker_site import CALLER, OTHER, Site, another, says, serving
from spawner_rig import PYTHON, Spawner
from twinlock_broker import audit as audit_log
from twinlock_broker.audit import AuditLog
from twinlock_broker.compute.command import parse
from twinlock_broker.control import sessions
from twinlock_broker.endpoints.pipeline import StartPipeline
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity.resolver import Resolver

# An endpoint that has short records written without end, and never waits for what becomes of them.
FLOOD = """
import json, socket, sys, threading
sock = socket.socket(socket.AF_UNIX)
sock.connect(json.load(sys.stdin)["control"])
sock.sendall(b'{"type": "figures", "figures": {"here": 1}}\\n')
def read():
    while sock.recv(1 << 16):
        pass
threading.Thread(target=read, daemon=True).start()
while True:
    sock.sendall(json.dumps({"type": "audit", "number": 1, "records": ["x"] * 16}).encode() + b"\\n")
"""


@pytest.fixture
def policy() -> dict[str, object]:
    """Programs that connect to the broker."""
    return {"programs": {"caller": [*PYTHON, CALLER], "flood": [*PYTHON, FLOOD]}}


async def test_an_endpoint_that_floods_the_audit_log_holds_up_itself_alone(
    spawner: Spawner,
    told: Told,
    runtime: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    at_once, rate = 200_000, 20_000  # so little that an endpoint on a busy host exceeds it too
    monkeypatch.setattr(sessions, "AUDIT_AT_ONCE", at_once)
    monkeypatch.setattr(sessions, "AUDIT_RATE", rate)
    log = tmp_path / "audit.log"
    audit = AuditLog(log, MANAGER)
    began = time.monotonic()
    async with serving(spawner, told, runtime, tmp_path, audit) as site:
        await site.supervisor.command(request(endpoint_user(), "flood"))
        await site.figures("here")
        async with asyncio.timeout(60):
            while "its audit records come faster than they are handled" not in caplog.text:
                await asyncio.sleep(0.01)
        batches = [{"type": "audit", "number": number, "records": ["y"]} for number in range(1, 101)]
        await site.supervisor.command(another("caller", says(*batches)))
        await until_number(site, 100)
        allowed = at_once + rate * (time.monotonic() - began)
        assert log.stat().st_size < allowed + 100_000, "the flood is rationed, whatever it sends"
    await audit.close()
    assert sum(f"uep={OTHER} y" in line for line in log.read_text().splitlines()) == 100


async def until_number(site: Site, number: int) -> None:
    """Wait until the other endpoint has heard that its batch `number` is safe."""
    async with asyncio.timeout(60):
        while (await site.figures("audited", OTHER))["number"] < number:
            await asyncio.sleep(0.01)


async def test_a_disk_that_hangs_holds_up_records_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(audit_log, "WRITE_LIMIT", 0.5)
    os.mkfifo(tmp_path / "log")
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    audit = AuditLog(tmp_path / "log", MANAGER)
    writing = asyncio.create_task(audit.write(b"x" * 200_000))
    await asyncio.sleep(0)  # the loop goes on: this returns
    assert not await writing
    assert not await audit.probe(), "nothing may be started meanwhile"
    assert "the disk took more than" in caplog.text
    async with asyncio.timeout(60):
        while not audit.healthy:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 1 << 20)
            await audit.probe()
    await audit.close()
    os.close(reader)


async def test_a_full_disk_is_told_once_and_not_for_each_record(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = AuditLog(tmp_path / "log", MANAGER)
    with full_disk():
        for _ in range(100):
            assert not await audit.write(audit.lines(1, 1, UEP, ["x"]))
    assert await audit.probe()
    assert caplog.text.count("THE AUDIT LOG CAN'T BE WRITTEN") == 1
    assert caplog.text.count("is written again") == 1


async def test_audit_records_are_stamped_with_who_the_kernel_says_it_is(
    spawner: Spawner, told: Told, runtime: Path, tmp_path: Path
) -> None:
    log = tmp_path / "audit.log"
    audit = AuditLog(log, MANAGER)
    task = str(uuid.uuid4())
    another_line = "2026-01-01T00:00:00+00:00 uid=0 pid=1 uep=x fid=f tid=t bid= RUNNING"
    forged = f"fid=f tid={task} bid= EXEC_END\u202e\x1b[2J\n{another_line}"
    records = {"type": "audit", "number": 7, "records": [f"fid=f tid={task} bid= RECEIVED", forged, "y" * 5000]}
    async with serving(spawner, told, runtime, tmp_path, audit) as site:
        await site.supervisor.command(request(endpoint_user(), "caller", says(records)))
        assert (await site.figures("audited"))["number"] == 7
        pid = next(iter(site.supervisor.endpoints)).pid
    await audit.close()
    begin, *lines, end = log.read_text().splitlines()
    uid = 65534 if os.geteuid() == 0 else os.getuid()
    assert [line.split(" ", 1)[1][: len(f"uid={uid} pid={pid} uep={UEP} ")] for line in lines] == [
        f"uid={uid} pid={pid} uep={UEP} "
    ] * 3
    assert lines[0].endswith(f"fid=f tid={task} bid= RECEIVED")
    assert len(lines[2]) < 1200
    assert all(line.isprintable() for line in lines)
    assert "Begin CEP session" in begin
    assert "End CEP session" in end
    assert log.stat().st_mode & 0o777 == 0o600


async def test_without_an_audit_no_record_is_safe(site: Site) -> None:
    message = {"type": "audit", "number": 1, "records": ["x"]}
    await site.supervisor.command(request(endpoint_user(), "caller", says(message)))
    await site.figures("unaudited")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, a disk that is full")
def test_a_full_disk_is_loud(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Fatal, match="nothing may run unaudited"):
        AuditLog(Path("/dev/full"), MANAGER)
    assert "THE AUDIT LOG CAN'T BE WRITTEN" in caplog.text


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow: what the kernel says then (EFBIG) is as good a reason as a full disk's."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_nothing_is_started_while_the_audit_cant_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    audit = AuditLog(tmp_path / "log", MANAGER)
    path = StartPipeline(make_folder(tmp_path / "ep"), "endpoint", Resolver(frozenset(), ()), audit)
    start = parse(message(), own_credentials(), MANAGER)
    with full_disk():
        assert not await audit.write(audit.lines(1, 1, UEP, ["x"]))
        with pytest.raises(CommandError, match="can't write its audit log"):
            await path.prepare(start)
    with pytest.raises(CommandError, match="serves nobody but the identity"):
        await path.prepare(start)
    assert "THE AUDIT LOG CAN'T BE WRITTEN" in caplog.text
    assert "the audit log is written again" in caplog.text


async def test_an_audit_log_that_was_moved_aside_is_begun_anew(tmp_path: Path) -> None:
    """Without a restart, which a configuration with an error would turn into an end."""
    log = tmp_path / "audit.log"
    audit = AuditLog(log, MANAGER)
    former = log.rename(tmp_path / "audit.log.1")
    size = former.stat().st_size
    record = audit.lines(1, 2, UEP, ["RECEIVED"])
    assert await audit.write(record)
    assert log.read_text().endswith(f"uid=1 pid=2 uep={UEP} RECEIVED\n")
    assert (log.stat().st_mode & 0o777, former.stat().st_size) == (0o600, size)
    log.rename(former)
    tmp_path.rename(tmp_path.with_name("away"))
    assert not await audit.write(record)
    tmp_path.with_name("away").rename(tmp_path)
    assert await audit.probe()
    await audit.close()
    assert "End CEP session" in log.read_text()
