"""The demonstration: a whole site on this machine, two users with the official SDK, and nothing left behind."""

import json
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from twinlock_testbed import templates
from twinlock_testbed.daemons import stop_stragglers
from twinlock_testbed.processes import capabilities, endpoints, guards, idle, keepers, title, tree
from twinlock_testbed.scripts import Outcome, Script
from twinlock_testbed.site import DOMAIN, Login, Manager, Person, Service, Setup, manager, remove_cgroup, service
from twinlock_testbed.slurm import Slurm, private_slurm
from twinlock_testbed.users import broker_account, processes_of, throw_away

USERS = ("twl-ada", "twl-bob")
_MANAGER = "manager"
_RESULT_TIMEOUT = 300.0
_IDLE_TIMEOUT = 180.0
_STARTED = time.monotonic()


def step(text: str) -> None:
    """Tell the person who watches what happens next."""
    print(f"[{time.monotonic() - _STARTED:5.1f} s] {text}", flush=True)


@dataclass
class Checks:
    """What was found to be wrong."""

    failures: list[str] = field(default_factory=list)
    """A sentence for each."""

    def that(self, good: bool, wrong: str) -> None:
        """Note `wrong` unless `good`."""
        if not good:
            self.failures.append(wrong)
            print(f"  WRONG: {wrong}", flush=True)


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
def shared_site(prefix: Path, slurm: bool) -> Iterator[Site]:
    """Start a site as root.

    It has two throw-away users, service and broker under accounts of their own, and Slurm if asked for.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(run_folder())
        broker_user = stack.enter_context(broker_account())
        step(f"making two users without a shell: {', '.join(USERS)}")
        service_user = stack.enter_context(throw_away("twl-service", system=True)).pw_name
        accounts = [stack.enter_context(throw_away(name)) for name in USERS]
        people = [Person(f"{name}@{DOMAIN}") for name in USERS]
        cluster = _start_slurm(stack, folder) if slurm else None
        step("starting RabbitMQ and twinlock-service (about ten seconds)")
        compute = stack.enter_context(service(prefix, folder, people, Login(), service_user))
        step(f"starting twinlock-spawner as root and twinlock-broker as {broker_user}")
        endpoint = stack.enter_context(manager(prefix, folder / _MANAGER, compute, _setup(cluster), broker_user))
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
        endpoint = stack.enter_context(manager(prefix, folder / _MANAGER, compute, _setup(None), None))
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


def _setup(cluster: Slurm | None) -> Setup:
    """Return the template, and the two lines with which an idle endpoint ends soon enough to be seen."""
    job = templates.SLURM if cluster else templates.LOCAL
    return Setup(
        template='{% include "job.yaml.j2" %}\n' + templates.IDLE,
        files={"job.yaml.j2": job},
        environment=cluster.environment() if cluster else {},
    )


def demonstrate(site: Site, checks: Checks) -> None:
    """Do the job: results for every user and configuration, the live processes, the end of idle endpoints."""
    outcomes = _run_scripts(site)
    _check_results(site, outcomes, checks)
    step("the processes now")
    for line in tree(site.service.daemon.pid, site.manager.broker.pid, site.manager.spawner.pid):
        print(line)
    _check_processes(site, checks)
    step("no more work; waiting for the idle endpoints to end (about half a minute)")
    began = time.monotonic()
    shown: set[str] = set()
    ended = _wait(lambda: _show_idle(site, shown), _IDLE_TIMEOUT)
    checks.that(ended, f"an idle endpoint still runs after {_IDLE_TIMEOUT:.0f} s")
    step(f"every endpoint has ended, {time.monotonic() - began:.0f} s after the last result")
    _check_leftovers(site, checks)


def _show_idle(site: Site, shown: set[str]) -> bool:
    """Print the title of every endpoint that says that it is idle, once. Return whether all have ended."""
    for process in endpoints(site.manager.spawner.pid):
        text = title(process).partition(", uep.")[0]
        if text.startswith("[") and text not in shown:
            shown.add(text)
            step(f"{text})")
    return idle(site.manager.spawner.pid)


def _run_scripts(site: Site) -> list[Outcome]:
    """Run the scripts of the first person with two configurations, and of the second with one, all at once."""
    scripts = []
    with ExitStack() as stack:
        for number, person in enumerate(site.people):
            name = person.username.partition("@")[0]
            configs = [{"account_id": f"{name}-{project}"} for project in ("one", "two")[: 2 - number]]
            step(f"{person.username} submits with account_id {' and '.join(c['account_id'] for c in configs)}")
            script = Script(
                site.prefix, person, site.manager.endpoint_id, configs, folder=site.folder, user=site.script_user
            )
            stack.callback(script.stop)
            scripts.append(script)
        return [outcome for script in scripts for outcome in script.outcomes(_RESULT_TIMEOUT)]


def _check_results(site: Site, outcomes: list[Outcome], checks: Checks) -> None:
    uids = {person.username: account.pw_uid for person, account in zip(site.people, site.accounts, strict=True)}
    for outcome in outcomes:
        who, account = outcome.person.username, outcome.config["account_id"]
        if outcome.result is None:
            checks.that(False, f"{who}, {account}: {outcome.error}")
            continue
        uid, environment = outcome.result["uid"], outcome.result["environment"]
        job = f", Slurm job {environment['SLURM_JOB_ID']}" if site.slurm else ""
        seen = environment["SLURM_JOB_ACCOUNT"] if site.slurm else outcome.result["directory"]
        step(f"result for {who}, {account}: uid {uid}, pid {outcome.result['pid']}{job}")
        checks.that(uid == uids[who], f"{who} has uid {uids[who]}, the task ran under {uid}")
        checks.that(seen == account, f"{who} asked for {account}, the task has {seen}")
    expected = 1 + len(site.people)
    checks.that(len(outcomes) == expected, f"{len(outcomes)} results, expected {expected}")


def _check_processes(site: Site, checks: Checks) -> None:
    spawner, broker = psutil.Process(site.manager.spawner.pid), psutil.Process(site.manager.broker.pid)
    uids = sorted(child.uids().real for child in endpoints(spawner.pid))
    own = [account.pw_uid for account in site.accounts]
    checks.that(uids == sorted([own[0], *own]), f"the endpoints have uids {uids}")
    checks.that(spawner.uids().real == os.geteuid(), "the spawner has another uid")
    helpers = _check_helpers(site.manager, checks)
    if site.slurm is None and os.geteuid():
        return
    checks.that(broker.uids().real not in (0, *own), f"the broker has uid {broker.uids().real}")
    checks.that(capabilities(broker.pid) == 0, "the broker has capabilities")
    roots = {process.pid for process in _ours(site) if _uid(process) == 0}
    checks.that(roots == {spawner.pid, *helpers}, f"processes of root beside the spawner and {helpers}: {roots}")


def _check_helpers(manager: Manager, checks: Checks) -> list[int]:
    """Check the spawner's own processes, and return their pids.

    With cgroups there is one keeper beside the endpoints, else a guard above each of them.
    """
    spawner = manager.spawner.pid
    kept, guarded = ([process.pid for process in found(spawner)] for found in (keepers, guards))
    parents = sorted(endpoint.ppid() for endpoint in endpoints(spawner))
    of_spawner = parents == [spawner] * len(parents) and not guarded
    of_guards = parents == sorted(guarded)
    checks.that(of_spawner if manager.cgroup else of_guards, f"the endpoints' parents are {parents}, guards {guarded}")
    checks.that(len(kept) == bool(manager.cgroup), f"the spawner has {len(kept)} keepers")
    return kept if manager.cgroup else guarded


def _uid(process: psutil.Process) -> int | None:
    """Return the uid under which it runs.

    It is None for a process that has ended meanwhile, such as those that RabbitMQ starts to look at the disk.
    """
    try:
        return int(process.uids().real)
    except psutil.NoSuchProcess:
        return None


def _ours(site: Site) -> Iterator[psutil.Process]:
    for pid in (site.service.daemon.pid, site.manager.broker.pid, site.manager.spawner.pid):
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)


def _check_leftovers(site: Site, checks: Checks) -> None:
    if (slurm := site.slurm) is not None:
        checks.that(_wait(lambda: not slurm.jobs(), 60), "there are jobs in Slurm's queue")
    if os.geteuid() == 0:
        for account in site.accounts:
            checks.that(not processes_of(account.pw_uid), f"processes of {account.pw_name} are left")


def _wait(done: Callable[[], bool], timeout: float) -> bool:
    """Return whether `done` came true within `timeout` seconds."""
    end = time.monotonic() + timeout
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True
