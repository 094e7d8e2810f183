"""The program itself: its command line, and its whole life with a real spawner and a real RabbitMQ."""

import asyncio
import contextlib
import importlib.metadata
import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_process import BROKER, MAPPED, NOBODY, Broker, broker_place, running_spawner, start_command
from broker_rabbit import Rabbit
from broker_rest import rest_service
from broker_rig import ALICE, MANAGER, UEP
from broker_site import ask
from globus_compute_common import messagepack
from hanging_memory import HOLD, memory_that_hangs
from spawner_rig import PYTHON, Spawner


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The broker, to its end."""
    return subprocess.run([*BROKER, *arguments], capture_output=True, text=True, timeout=120)


def test_usage() -> None:
    assert run("--endpoint").returncode == 100
    shown = run("--help")
    assert shown.returncode == 0
    for word in ("--endpoint-dir", "heartbeat_period", "exit codes", "GLOBUS_COMPUTE_CLIENT_ID"):
        assert word in shown.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_is_refused() -> None:
    ended = run("--endpoint-dir", "/")
    assert ended.returncode == os.EX_NOPERM
    assert "must not run as root" in ended.stderr


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with an endpoint's folder in it."""
    with broker_place() as made:
        yield made


async def start_over(spawner: Spawner) -> None:
    """The spawner reads its policy anew, and the broker is connected again."""
    said = spawner.said.count()
    spawner.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(spawner.said.wait_for, '"hello"', after=said)


def spawned_uids(spawner: Spawner) -> list[int]:
    """Under which uids endpoints were started."""
    return [line["uid"] for line in spawner.audit() if line["event"] == "identity"]


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_a_brokers_life(rabbit: Rabbit, place: Path) -> None:
    policy = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, policy) as spawner:
        async with Broker.running(place, spawner, service) as broker:
            assert json.loads((place / "state" / "endpoint.json").read_text()) == {"endpoint_id": MANAGER}
            assert Path(f"/proc/{broker.process.pid}/cmdline").read_text().startswith(f"twinlock-broker [{MANAGER}]")
            status = Path(f"/proc/{broker.process.pid}/status").read_text()
            assert f"\nUid:\t{pwd.getpwnam('nobody').pw_uid}\t" in status
            assert "\nCapEff:\t0000000000000000\n" in status
            admin = place / "state" / "admin.sock"
            state = await ask(admin, '{"request": "status"}')
            assert (state["spawner_connected"], state["version"]) == (True, importlib.metadata.version("twinlock"))
            assert (state["amqp"], state["starts"]) == ({"commands": True, "heartbeats": True}, {"waiting": 0})
            assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 3600}

            await start_over(spawner)
            await rabbit.command(b'{"command": ', round(time.time()))
            await start_command(rabbit)
            notice = messagepack.unpack(await rabbit.take("beats"))
            assert str(notice.endpoint_id) == UEP
            assert "ended with exit code 0 before it was up. It printed:" in notice.global_state["error"]
            assert spawned_uids(spawner) == [pwd.getpwnam(MAPPED).pw_uid]
            (failure,) = (await ask(admin, '{"request": "failures"}'))["failures"]
            assert (failure["stage"], failure["identity"]) == ("program", "alice@site.example")
            assert f"(error id {failure['command']})" in notice.global_state["error"]
            events = (await ask(admin, json.dumps({"request": "events", "endpoint": UEP})))["events"]
            assert any("told to the user" in line for line in events)

            log = await broker.stop()
            assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 0}
            for secret in ("the-client-secret", "hush"):
                assert secret not in log


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_endpoints_find_nobody_before_the_spawner_has_listed_them(rabbit: Rabbit, place: Path) -> None:
    """Or else a broker that starts would take them for strangers."""
    policy = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}
    admin, control = (place / "state" / name for name in ("admin.sock", "control.sock"))
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, policy) as spawner:
        spawner.process.send_signal(signal.SIGSTOP)
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(spawner.process.send_signal, signal.SIGCONT)  # a stopped one couldn't end
            start = asyncio.create_task(stack.enter_async_context(Broker.running(place, spawner, service)))
            async with asyncio.timeout(180):
                while not admin.exists():
                    await asyncio.sleep(0.01)
            assert not (await ask(admin, '{"request": "status"}'))["spawner_connected"]
            assert not control.exists()
            spawner.process.send_signal(signal.SIGCONT)
            broker = await start
            assert control.exists()
            await broker.stop()
    for _ in range(2):
        await rabbit.take("beats")


# Connects without end and keeps the last thousand connections, of which it reads nothing.
FLOOD = """
import collections, contextlib, socket, sys
kept = collections.deque(maxlen=1000)
def come():
    kept.append(socket.socket(socket.AF_UNIX))
    with contextlib.suppress(OSError):
        kept[-1].connect(sys.argv[1])
        kept[-1].sendall(b'{"type": "figures", "figures": {')
for _ in range(1000):
    come()
print("going on", flush=True)
while True:
    come()
"""


async def next_state(rabbit: Rabbit) -> object:
    """What the next heartbeat or notice says."""
    async with asyncio.timeout(180):
        while not await rabbit.waiting("beats"):
            await asyncio.sleep(0.05)
    return messagepack.unpack(await rabbit.take("beats")).global_state


@contextlib.contextmanager
def flooding(argv: list[str]) -> Iterator[None]:
    """The flood, from its thousandth connection on, while the block runs."""
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as flood:
        try:
            assert flood.stdout is not None
            assert flood.stdout.readline() == b"going on\n"
            yield
        finally:
            flood.kill()


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_an_account_that_connects_without_end_stops_no_start_and_fills_no_log(
    rabbit: Rabbit, place: Path
) -> None:
    policy = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}
    (place / "state").chmod(0o711)  # the way to the control socket
    argv = ["setpriv", "--reuid=daemon", "--regid=daemon", "--clear-groups", "--", *PYTHON, FLOOD]
    began = time.monotonic()
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, policy) as spawner:
        async with Broker.running(place, spawner, service) as broker:
            with flooding([*argv, str(place / "state" / "control.sock")]):
                await start_command(rabbit)
                said = ""
                while "It printed:" not in said:
                    said = str(await next_state(rabbit))
            log = await broker.stop()
            while await next_state(rabbit) != {"heartbeat_period": 0}:
                pass
            minutes = 1 + (time.monotonic() - began) // 60
            lines = sum(f"uid {pwd.getpwnam('daemon').pw_uid} " in line for line in log.splitlines())
            assert 0 < lines < 10 * minutes


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_who_keeps_its_output_from_being_read_stops_no_broker(rabbit: Rabbit, place: Path) -> None:
    """Neither the one that started its endpoint, which can be stopped or killed, nor those that follow."""
    limits = "twinlock_broker.endpoints.output.FINISH_LIMIT", "twinlock_broker.endpoints.launcher.OPEN_LIMIT"
    (place / "fuse").mkdir()
    code = f"import sys; sys.argv.append({str(place / 'fuse' / 'memory')!r})\n{HOLD}"
    policy = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": [], "programs": {"hold": [*PYTHON, code]}}
    with (
        rest_service(rabbit.url, MANAGER) as service,
        running_spawner(place, policy) as spawner,
        memory_that_hangs(place / "fuse") as memory,
    ):
        async with asyncio.timeout(600):
            async with Broker.running(place, spawner, service, program="hold", own=limits) as broker:
                await start_command(rabbit)
                await asyncio.to_thread(memory.wait_until_read)
                await broker.stop()
            async with Broker.running(place, spawner, service, own=limits) as broker:
                broker.process.kill()
                await broker.process.wait()
            async with Broker.running(place, spawner, service, own=limits) as broker:
                await broker.stop()
    while await rabbit.waiting("beats"):
        await rabbit.take("beats")


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_what_systemd_is_told(rabbit: Rabbit, place: Path) -> None:
    policy = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}
    systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    systemd.settimeout(60)
    systemd.bind(str(place / "notify"))
    (place / "notify").chmod(0o777)
    told = {"NOTIFY_SOCKET": str(place / "notify"), "WATCHDOG_USEC": "2000000"}
    with systemd, rest_service(rabbit.url, MANAGER) as service, running_spawner(place, policy) as spawner:
        async with Broker.running(place, spawner, service, told) as broker:
            heard = [await asyncio.to_thread(systemd.recv, 1000) for _ in range(4)]
            assert heard[0] == b"READY=1"
            assert {*heard[1:]} == {b"STATUS=user endpoints: none\nWATCHDOG=1"}
            await broker.stop()
        last = b""
        while last != b"STOPPING=1":
            last = systemd.recv(1000)
    assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 3600}
    assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 0}


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_same_user_mode(rabbit: Rabbit, place: Path) -> None:
    shutil.chown(place, "nobody", "nogroup")
    (place / "ep" / "user_environment.yaml").write_text("TZ: UTC")
    policy = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, policy, NOBODY) as spawner:
        service.answer |= {"sub": UEP, "identity_set": [{"sub": UEP}, {"sub": ALICE}]}
        async with Broker.running(place, spawner, service) as broker:
            assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 3600}
            await start_command(rabbit)
            assert "It printed:" in messagepack.unpack(await rabbit.take("beats")).global_state["error"]
            assert spawned_uids(spawner) == [pwd.getpwnam("nobody").pw_uid]
            log = await broker.stop()
            assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 0}
            assert "same-user mode: " in log
            assert "'report' gets the variables of user_environment.yaml only if the policy starts it with" in log
