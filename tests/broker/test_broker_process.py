"""The program itself: its command line, and its whole life with a real spawner and a real RabbitMQ."""

import asyncio
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_rabbit import Rabbit
from broker_rest import rest_service
from broker_rig import MANAGER, UEP, amqp_creds, identity, make_folder, message
from globus_compute_common import messagepack
from spawner_rig import Spawner, launch, stop

BROKER = [sys.executable, "-m", "twinlock_broker"]
NOBODY = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all"]
MAPPED = "daemon"
"""An account that every Debian has, and that isn't the broker's here."""


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The broker, to its end."""
    return subprocess.run([*BROKER, *arguments], capture_output=True, text=True, timeout=30)


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
    """A folder that the broker's user can enter, with an endpoint's folder and a state folder of its own in it."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "state").mkdir()
        shutil.chown(place / "state", "nobody", "nogroup")
        mapping = [{"source": "{username}", "match": ".*@site\\.example".replace(".*", "(.*)"), "output": MAPPED}]
        document = [{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": mapping}]
        make_folder(place / "ep", "identity_mapping_config_path: map.json", map__json=json.dumps(document))
        yield place


@pytest.fixture
def spawner_of_nobody(place: Path) -> Iterator[Spawner]:
    """A spawner as root, whose broker is the user nobody."""
    made = launch(place, {"broker_user": "nobody", "deny_users": ["root"], "min_uid": 1})
    try:
        yield made
    finally:
        stop(made)


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_a_brokers_life(rabbit: Rabbit, place: Path, spawner_of_nobody: Spawner) -> None:
    with rest_service(rabbit.url, MANAGER) as service:
        (place / "broker.yaml").write_text(f"program: report\nspawner_socket: {spawner_of_nobody.socket}")
        login = {"GLOBUS_COMPUTE_CLIENT_ID": MANAGER, "GLOBUS_COMPUTE_CLIENT_SECRET": "the-client-secret"}
        process = await asyncio.create_subprocess_exec(
            *(*NOBODY, *BROKER, "--endpoint-dir", str(place / "ep"), "--state", str(place / "state")),
            *("--config", str(place / "broker.yaml")),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={"PATH": "/usr/bin:/bin", **login, **service.environment},
            cwd="/",
        )
        assert process.stdout is not None
        line = await asyncio.wait_for(process.stdout.readline(), 30)
        assert line == f"twinlock-broker ready, endpoint {MANAGER}\n".encode()
        assert json.loads((place / "state" / "endpoint.json").read_text()) == {"endpoint_id": MANAGER}
        assert Path(f"/proc/{process.pid}/cmdline").read_text().startswith(f"twinlock-broker [{MANAGER}]")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert f"\nUid:\t{pwd.getpwnam('nobody').pw_uid}\t" in status
        assert "\nCapEff:\t0000000000000000\n" in status
        assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 30}

        command = message(amqp_creds=amqp_creds(rabbit.url)) | {"globus_identity_set": [identity()]}
        await rabbit.command(b'{"command": ', round(time.time()))
        await rabbit.command(json.dumps(command).encode(), round(time.time()))
        notice = messagepack.unpack(await rabbit.take("beats"))
        assert str(notice.endpoint_id) == UEP
        assert "ended with exit code 0 before it was up. It printed:" in notice.global_state["error"]
        spawned = [line for line in spawner_of_nobody.audit() if line["event"] == "spawned"]
        assert [line["uid"] for line in spawned] == [pwd.getpwnam(MAPPED).pw_uid]

        process.send_signal(signal.SIGTERM)
        _, log = await asyncio.wait_for(process.communicate(), 30)
        assert process.returncode == 0, log.decode()
        assert messagepack.unpack(await rabbit.take("beats")).global_state == {"heartbeat_period": 0}
        for secret in (b"the-client-secret", b"hush"):
            assert secret not in log
