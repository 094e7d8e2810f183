"""A whole site for the system tests: one Compute service and some users, and managers as the tests need them."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from patience import RENDERING, patient_program
from site_rig import PEOPLE, USERS, Launch, World
from twinlock_testbed.manager import Manager, Setup, manager
from twinlock_testbed.service import Login, Person, service
from twinlock_testbed.users import broker_account, throw_away


@pytest.fixture(scope="session")
def prefix() -> Path:
    """Where the programs are installed."""
    return Path(os.environ.get("TWINLOCK_PREFIX", sys.prefix))


@pytest.fixture(scope="package")
def folder() -> Iterator[Path]:
    """A folder that every user may enter."""
    path = Path(tempfile.mkdtemp(prefix="twl-site-", dir="/var/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="package")
def world(prefix: Path, folder: Path) -> Iterator[World]:
    """The service, its people, and the accounts of those who have one."""
    with ExitStack() as stack:
        broker_user = stack.enter_context(broker_account())
        service_user = stack.enter_context(throw_away("twl-service", system=True)).pw_name
        accounts = {name: stack.enter_context(throw_away(name)) for name in USERS}
        people = [Person(username) for username in PEOPLE]
        compute = stack.enter_context(service(prefix, folder, people, Login(), service_user))
        yield World(prefix, folder, compute, accounts, broker_user)


@pytest.fixture(scope="module")
def launch(world: World) -> Iterator[Launch]:
    """Start manager endpoints that end with the module."""
    with ExitStack() as stack:

        def start(name: str, setup: Setup) -> Manager:
            path = world.folder / name
            setup = replace(setup, broker=tuple(patient_program("twinlock_broker", RENDERING)))
            return stack.enter_context(manager(world.prefix, path, world.service, setup, world.broker_user))

        yield start
