"""One broker for a state folder: a second one waits for the first, or ends and has changed nothing."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_process import Broker, broker_place, command, running_spawner, start_command, variables
from broker_rabbit import Rabbit
from broker_rest import rest_service
from broker_rig import ALICE, MANAGER, identity
from proc_rig import children, descriptors, until
from twinlock_broker.config.lock import locked
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity.mapping import Mapper

POLICY = {"broker_user": "nobody", "deny_users": ["root"], "system_uids": []}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with an endpoint's folder and a state folder in it."""
    with broker_place() as made:
        yield made


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """The files below a folder: when they were changed, and what is in them."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.mark.thorough
@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_a_second_broker_changes_nothing(rabbit: Rabbit, place: Path) -> None:
    """It asks nobody anything and writes nothing. The first one serves on, and what it runs doesn't have the lock."""
    lock = str(place / "state" / "broker.lock")
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, POLICY) as spawner:
        async with Broker.running(place, spawner, service) as broker:
            await rabbit.take("beats")
            await start_command(rabbit)
            await rabbit.take("beats")  # that the program has ended; the notice is kept until RabbitMQ has confirmed it
            assert await asyncio.to_thread(until, lambda: not list((place / "state" / "notices").glob("*.json")))
            workers = children(broker.process.pid)
            assert workers, "what has rendered the template waits for more"
            assert lock in descriptors(broker.process.pid).values()
            for pid in workers:
                with contextlib.suppress(FileNotFoundError):  # what has read the output may end meanwhile
                    assert lock not in descriptors(pid).values()
            before, asked, audited = contents(place / "state"), len(service.asked), len(spawner.audit())
            tokens = len(service.logins)
            second = await asyncio.to_thread(
                subprocess.run,
                command(place, own=["twinlock_broker.config.lock.PATIENCE"]),
                capture_output=True,
                text=True,
                env=variables(service),
                timeout=120,
                check=False,
            )
            assert second.returncode == os.EX_TEMPFAIL
            assert second.stderr.startswith(f"twinlock-broker: {place}/state is in use by another twinlock-broker; ")
            assert (second.stdout, second.stderr.count("\n")) == ("", 1)
            assert contents(place / "state") == before
            assert (len(service.asked), len(service.logins), len(spawner.audit())) == (asked, tokens, audited)
            assert broker.process.returncode is None
            await broker.stop()
            await rabbit.take("beats")  # it says goodbye


@pytest.mark.system
@pytest.mark.asyncio(loop_scope="package")
async def test_the_next_broker_waits_for_one_that_ends(rabbit: Rabbit, place: Path) -> None:
    with rest_service(rabbit.url, MANAGER) as service, running_spawner(place, POLICY) as spawner:
        async with Broker.running(place, spawner, service) as first:
            second = await asyncio.create_subprocess_exec(
                *command(place), stdout=subprocess.PIPE, env=variables(service), cwd="/"
            )
            lock = str(place / "state" / "broker.lock")
            assert await asyncio.to_thread(until, lambda: lock in descriptors(second.pid).values())
            await first.stop()
        assert second.stdout is not None
        line = await asyncio.wait_for(second.stdout.readline(), 180)
        assert line == f"twinlock-broker ready, endpoint {MANAGER}\n".encode()
        second.terminate()
        assert await asyncio.wait_for(second.wait(), 60) == 0
    for _ in range(4):  # each said that it was there, and goodbye
        await rabbit.take("beats")


def test_a_lock_that_was_left_is_no_obstacle(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            assert (tmp_path / "broker.lock").stat().st_mode & 0o777 == 0o600
        assert (tmp_path / "broker.lock").exists()


@pytest.mark.parametrize("wrong", ["a link", "no folder"])
def test_a_folder_without_a_lock_file(tmp_path: Path, wrong: str) -> None:
    if wrong == "a link":
        (tmp_path / "broker.lock").symlink_to("elsewhere")
    state = tmp_path if wrong == "a link" else tmp_path / "missing"
    with pytest.raises(Fatal, match="give --state a folder that the broker owns") as caught, locked(state):
        pytest.fail("the folder isn't locked")
    assert caught.value.status == os.EX_CANTCREAT
    assert not (tmp_path / "elsewhere").exists()


def test_an_external_mapper_does_not_have_the_lock(tmp_path: Path) -> None:
    mapper, said = tmp_path / "mapper", tmp_path / "said"
    mapper.write_text(f"#!/bin/sh\nls -l /proc/self/fd > {said}\nexit 3\n")
    mapper.chmod(0o755)
    document = [{"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(mapper)]}]
    (tmp_path / "map.json").write_text(json.dumps(document))
    lock = str(tmp_path / "broker.lock")
    with locked(tmp_path):
        assert lock in descriptors(os.getpid()).values()
        with pytest.raises(CommandError, match="its identity mapping failed"):
            Mapper(tmp_path / "map.json", MANAGER).map([identity(ALICE)])
    assert "-> " in said.read_text()
    assert lock not in said.read_text()
