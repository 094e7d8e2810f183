"""The demonstration: a whole site on this machine, two users with the official SDK, and nothing left behind."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

import psutil

from twinlock_testbed.demo_site import Site
from twinlock_testbed.manager import Manager
from twinlock_testbed.processes import capabilities, endpoints, guards, idle, keepers, title, tree
from twinlock_testbed.progress import step
from twinlock_testbed.scripts import Outcome, Script
from twinlock_testbed.users import processes_of

_RESULT_TIMEOUT = 300.0
_IDLE_TIMEOUT = 180.0


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
