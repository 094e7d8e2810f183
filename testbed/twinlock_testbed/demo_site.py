"""The site of a demonstration: as root with accounts of its own, else for one's own account."""

import json
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from twinlock_testbed import templates
from twinlock_testbed.cgroup import remove_cgroup
from twinlock_testbed.daemons import stop_stragglers
from twinlock_testbed.manager import Manager, Setup, manager
from twinlock_testbed.progress import step
from twinlock_testbed.service import DOMAIN, Login, Person, Service, service
from twinlock_testbed.slurm import Slurm, private_slurm
from twinlock_testbed.users import broker_account, throw_away

USERS = ("twl-ada", "twl-bob")
_MANAGER = "manager"


@dataclass(frozen=True)
class Site:
    """What the demonstration works with."""

    prefix: Path
    """Where the programs are installed."""
    folder: Path
    """A folder that every account may enter."""
    people: list[Person]
    """Those who submit."""
    accounts: list[pwd.struct_passwd]
    """The local accounts that they are mapped to, in the same order."""
    service: Service
    manager: Manager
    slurm: Slurm | None
    """None where Slurm is not installed."""
    script_user: str | None
    """Who runs the users' scripts; None for the caller's own account."""


@contextmanager
def run_folder() -> Iterator[Path]:
    """Make a folder that everyone may enter.

    It is removed at the very end, with what an interruption may have left beside it.
    """
    folder = Path(tempfile.mkdtemp(prefix="twinlock-", dir="/var/tmp"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        stop_stragglers()
        remove_cgroup(folder / _MANAGER)
        shutil.rmtree(folder)


@contextmanager
def shared_site(
    prefix: Path,
    *,
    slurm: bool = False,
    users: Sequence[str] = USERS,
    verified: Path | None = None,
    settings: Mapping[str, object] = MappingProxyType({}),
) -> Iterator[Site]:
    """Start a site as root.

    It has throw-away users, service and broker under accounts of their own, and Slurm if asked for. With the file
    `verified` its endpoints are in verified mode, and the policy admits no others. `settings` are keys of broker.yaml.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder())
        broker_user = stack.enter_context(broker_account())
        step(f"making users without a shell: {', '.join(users)}")
        service_user = stack.enter_context(throw_away("twl-service", system=True)).pw_name
        accounts = [stack.enter_context(throw_away(name)) for name in users]
        people = [Person(f"{name}@{DOMAIN}") for name in users]
        cluster = _start_slurm(stack, folder) if slurm else None
        step("starting RabbitMQ and twinlock-service (about ten seconds)")
        compute = stack.enter_context(service(prefix, folder, people, Login(), service_user))
        step(f"starting twinlock-spawner as root and twinlock-broker as {broker_user}")
        setup = replace(_setup(prefix, cluster, verified), settings=settings)
        endpoint = stack.enter_context(manager(prefix, folder / _MANAGER, compute, setup, broker_user))
        yield Site(prefix, folder, people, accounts, compute, endpoint, cluster, "nobody")


@contextmanager
def own_site(prefix: Path) -> Iterator[Site]:
    """Start a site without root.

    Everything runs under the caller's account, whose Globus identity is linked to the broker's login.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder())
        account = pwd.getpwuid(os.getuid())
        login = Login()
        people = [Person(f"{account.pw_name}@{DOMAIN}", linked=(login.client_id,))]
        step("starting RabbitMQ and twinlock-service (about ten seconds)")
        compute = stack.enter_context(service(prefix, folder, people, login, None))
        step(f"starting twinlock-spawner and twinlock-broker as {account.pw_name}")
        stack.callback(_remove_endpoint_folders, folder / _MANAGER / "broker" / "endpoint.json")
        endpoint = stack.enter_context(manager(prefix, folder / _MANAGER, compute, _setup(prefix, None, None), None))
        yield Site(prefix, folder, people, [account], compute, endpoint, None, None)


def _remove_endpoint_folders(registration: Path) -> None:
    """Remove what this run's endpoints made in the home of a user who isn't thrown away."""
    if registration.exists():
        manager_id = json.loads(registration.read_text())["endpoint_id"]
        for path in (Path.home() / ".globus_compute").glob(f"uep.{manager_id}.*"):
            shutil.rmtree(path)


def _start_slurm(stack: ExitStack, folder: Path) -> Slurm:
    step("starting Slurm with one node")
    return stack.enter_context(private_slurm(folder / "slurm"))


def _setup(prefix: Path, cluster: Slurm | None, verified: Path | None) -> Setup:
    """Return the template, and the two lines with which an idle endpoint ends soon enough to be seen."""
    job = templates.SLURM if cluster else templates.LOCAL
    return Setup(
        template='{% include "job.yaml.j2" %}\n' + templates.IDLE,
        files={"job.yaml.j2": job},
        environment=cluster.environment() if cluster else {},
        policy={"verified_only": True} if verified else {},
        program=(str(prefix / "bin/twinlock-endpoint"), "--verified", str(verified)) if verified else (),
    )
