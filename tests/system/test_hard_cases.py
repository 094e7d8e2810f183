"""What hangs or is full at a site: who is concerned gets an error that says so, and nobody else notices."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hanging_home import home_that_hangs
from site_rig import ADA, BOB, RESULT_TIMEOUT, Launch, World
from twinlock_testbed.manager import Manager, Setup

pytestmark = pytest.mark.system

TEMPLATE = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
MAPPERS = [
    {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": ["/bin/sh", "-c", "exec sleep 1000", "mapper"]},
    {
        "DATA_TYPE": "expression_identity_mapping#1.0.0",
        "mappings": [{"source": "{username}", "match": "(twl-ada)@site\\.example", "output": "{0}"}],
    },
]


@pytest.fixture(scope="module")
def endpoint(launch: Launch) -> Manager:
    """A manager whose spawner gives up starts after some seconds."""
    return launch("hard", Setup(TEMPLATE, policy={"exec_timeout": 15.0}))


def test_a_mapper_that_hangs_costs_nobody_who_is_mapped_without_it(world: World, launch: Launch) -> None:
    mapping = {"mapping.json": json.dumps(MAPPERS)}
    setup = Setup(TEMPLATE, files=mapping, config={"identity_mapping_config_path": "mapping.json"})
    manager = launch("mapper-hangs", setup)
    first, second = world.script(ADA, manager.endpoint_id, {}), world.script(BOB, manager.endpoint_id, {})
    assert first.outcomes(RESULT_TIMEOUT)[0].error is None
    assert "its identity mapping failed" in (second.outcomes(RESULT_TIMEOUT)[0].error or "")


@contextlib.contextmanager
def mounted(*argv: str | Path) -> Iterator[None]:
    """A file system, while the block runs."""
    subprocess.run(["mount", *argv], check=True, timeout=60)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", argv[-1]], check=True, timeout=60)


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse, for a file system that hangs")
def test_a_home_that_hangs_is_told_to_its_owner_and_holds_up_nobody(world: World, endpoint: Manager) -> None:
    with home_that_hangs(Path(world.accounts["twl-bob"].pw_dir)):
        first = world.script(BOB, endpoint.endpoint_id, {})
        assert world.run(ADA, endpoint, {})[0].error is None
        error = first.outcomes(RESULT_TIMEOUT)[0].error or ""
    assert "Your home directory, or the host's user database, may not answer" in error
    assert "administrator" in error
    assert world.run(BOB, endpoint, {"again": 1})[0].error is None


def test_a_home_that_is_full_is_told_to_its_owner(world: World, endpoint: Manager) -> None:
    account = world.accounts["twl-bob"]
    owner = f"uid={account.pw_uid},gid={account.pw_gid},mode=700"
    with mounted("-t", "tmpfs", "-o", f"size=4k,nr_inodes=2,{owner}", "full", Path(account.pw_dir)):
        error = world.run(BOB, endpoint, {"full": 1})[0].error or ""
    assert f"{account.pw_dir}/.globus_compute is full. Remove files" in error
    assert world.run(ADA, endpoint, {"full": 1})[0].error is None


def test_a_full_disk_of_the_broker_stops_nobody(world: World, endpoint: Manager) -> None:
    state = endpoint.folder / "broker"
    account = world.broker_user
    with mounted("-t", "tmpfs", "-o", f"size=4k,nr_inodes=1,uid={account},mode=700", "full", state / "endpoints"):
        assert world.run(ADA, endpoint, {"broker": "full"})[0].error is None
    assert "No space left on device" in endpoint.broker.output()
