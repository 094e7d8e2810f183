"""A broker as a process under the user nobody, with a real spawner, a real RabbitMQ, and a stand-in for the service."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path

from broker_rabbit import Rabbit
from broker_rest import Service
from broker_rig import MANAGER, amqp_creds, identity, make_folder, message
from patience import BROKER as LIMITS
from patience import patient_program
from spawner_rig import Spawner, launch, stop

BROKER = [sys.executable, "-m", "twinlock_broker"]
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--inh-caps=-all")
MAPPED = "daemon"
"""An account that every Debian has, and that isn't the broker's here."""


@contextlib.contextmanager
def running_spawner(place: Path, policy: Mapping[str, object], prefix: tuple[str, ...] = ()) -> Iterator[Spawner]:
    """A spawner, while it runs."""
    spawner = launch(place, policy, prefix)
    try:
        yield spawner
    finally:
        stop(spawner)


@contextlib.contextmanager
def broker_place(output: str = MAPPED, template: str | None = None) -> Iterator[Path]:
    """A folder that the broker's user can enter, with an endpoint's folder and a state folder of its own in it.

    People of this site are mapped to `output`, in which {0} is their name.
    """
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "state").mkdir()
        shutil.chown(place / "state", "nobody", "nogroup")
        mapping = [{"source": "{username}", "match": "(.*)@site\\.example", "output": output}]
        document = [{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": mapping}]
        files = {"map__json": json.dumps(document)}
        config = "identity_mapping_config_path: map.json\nheartbeat_period: 3600"  # one, whatever the rest takes
        if template is None:
            make_folder(place / "ep", config, **files)
        else:
            make_folder(place / "ep", config, template, **files)
        yield place


def command(place: Path, own: Collection[str] = ()) -> list[str]:
    """A broker of the place; who runs it writes its broker.yaml first.

    Of its limits, which are those of a busy machine, it keeps its `own` of these names.
    """
    paths = ("--endpoint-dir", place / "ep", "--state", place / "state", "--config", place / "broker.yaml")
    program = patient_program("twinlock_broker", [limit for limit in LIMITS if limit not in own])
    return [*NOBODY, *program, *map(str, paths)]


def variables(service: Service) -> dict[str, str]:
    """The environment in which a broker finds the service and logs in there."""
    login = {"GLOBUS_COMPUTE_CLIENT_ID": MANAGER, "GLOBUS_COMPUTE_CLIENT_SECRET": "the-client-secret"}
    return {"PATH": "/usr/bin:/bin", **login, **service.environment}


class Broker:
    """The broker's process, under the user nobody, and the file that it logs to."""

    def __init__(self, process: asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self._log = log

    @property
    def log(self) -> str:
        """What it has logged, earlier ones of the same place before it."""
        return self._log.read_text()

    @classmethod
    @contextlib.asynccontextmanager
    async def running(
        cls,
        place: Path,
        spawner: Spawner,
        service: Service,
        environment: Mapping[str, str] | None = None,
        program: str = "report",
        own: Collection[str] = (),
        metrics: str = "",
    ) -> "AsyncIterator[Broker]":
        """It, when it says that it is ready; it ends with the block, however that ends.

        `program` is the spawner rig's that it starts; `report` prints its document and ends. For `own`
        see `command`. `metrics` is their address; without one, it is a socket in the state folder.
        """
        address = metrics or f"{place}/state/metrics.sock"
        lines = (f"program: {program}", f"spawner_socket: {spawner.socket}", f"metrics: {address}")
        (place / "broker.yaml").write_text("\n".join(lines))
        log = os.open(place / "broker.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        process = await asyncio.create_subprocess_exec(
            *command(place, own),
            stdout=subprocess.PIPE,
            stderr=log,
            env=variables(service) | {**(environment or {})},
            cwd="/",
        )
        os.close(log)
        assert process.stdout is not None
        try:
            line = await asyncio.wait_for(process.stdout.readline(), 180)
            assert line == f"twinlock-broker ready, endpoint {MANAGER}\n".encode()
            yield cls(process, place / "broker.log")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def stop(self) -> str:
        """Ask it to end; its log."""
        self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), 180)
        assert self.process.returncode == 0, self.log
        return self.log


async def exported(place: Path) -> str:
    """What Prometheus gets of the place's broker."""
    reader, writer = await asyncio.open_unix_connection(place / "state" / "metrics.sock")
    writer.write(b"GET /metrics HTTP/1.1\r\n\r\n")
    answer = await asyncio.wait_for(reader.read(), 60)
    writer.close()
    return answer.decode()


async def start_command(rabbit: Rabbit) -> None:
    """A start command of Alice arrives."""
    command = message(amqp_creds=amqp_creds(rabbit.url)) | {"globus_identity_set": [identity()]}
    await rabbit.command(json.dumps(command).encode(), round(time.time()))
