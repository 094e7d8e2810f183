"""A site for some minutes: wild users do all that tasks can do, quiet ones notice nothing of it, and every future ends.

SOAK_MINUTES and SOAK_SEED in the environment say how long and which; `make deep` takes an hour and a new seed. The logs
of one that fails are kept in build/soak.
"""

import os
import random
import re
import shutil
import threading
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path

import pytest
from site_rig import eventually
from soak_rig import ENGINES, TEMPLATE, Administrator, Hand, Quiet, Wild, lay_out
from twinlock_testbed.manager import Manager, Setup, manager
from twinlock_testbed.service import DOMAIN, Login, Person, Service, service
from twinlock_testbed.users import processes_of, throw_away

pytestmark = pytest.mark.system

MINUTES = float(os.environ.get("SOAK_MINUTES", "3"))
SEED = os.environ.get("SOAK_SEED", "1")

KEPT = Path(__file__).parents[2] / "build/soak"

ACCIDENT = re.compile("^Traceback| traceback=")
"""In a log; a traceback that an endpoint printed stands there as one text."""

QUIET = {f"twl-quiet-{number}": engine for number, engine in enumerate(ENGINES)}
WILD = [f"twl-wild-{number}" for number in range(4)]


def account(name: str) -> str:
    """The local account of who has this name here: another soak may run on this host."""
    return f"{name}-{os.getpid()}"


@pytest.fixture
def accounts() -> Iterator[dict[str, int]]:
    """The uids of the users' accounts."""
    with ExitStack() as stack:
        made = [stack.enter_context(throw_away(account(name))) for name in (*QUIET, *WILD)]
        yield {row.pw_name: row.pw_uid for row in made}


@pytest.fixture
def compute(prefix: Path, folder: Path, accounts: dict[str, int]) -> Iterator[Service]:
    """The Compute service."""
    people = [Person(f"{name}@{DOMAIN}") for name in accounts]
    with ExitStack() as stack:
        runs_it = stack.enter_context(throw_away(account("twl-soaks"), system=True))
        yield stack.enter_context(service(prefix, folder, people, Login(), runs_it.pw_name))


@pytest.fixture
def site(prefix: Path, folder: Path, compute: Service) -> Iterator[Manager]:
    """The manager endpoint."""
    with ExitStack() as stack:
        runs_it = stack.enter_context(throw_away(account("twl-soakb"), system=True))
        yield stack.enter_context(manager(prefix, folder / "site", compute, Setup(TEMPLATE), runs_it.pw_name))


def test_quiet_users_notice_nothing_and_every_future_ends(
    prefix: Path, folder: Path, accounts: dict[str, int], compute: Service, site: Manager
) -> None:
    print(f"SOAK_SEED={SEED} SOAK_MINUTES={MINUTES:g}")
    lay_out(folder)
    with ExitStack() as stack:

        def hand(name: str) -> Hand:
            made = Hand(prefix, folder, site.endpoint_id, compute.people[f"{account(name)}@{DOMAIN}"].token)
            stack.callback(made.stop)
            return made

        control = str(site.runtime / "control.sock")
        quiet = [Quiet(hand(name), random.Random(SEED + name), engine) for name, engine in QUIET.items()]
        wild = [Wild(hand(name), random.Random(SEED + name), control) for name in WILD]
        administrator = Administrator(site, compute, random.Random(SEED))
        try:
            live_together([*quiet, *wild, administrator])
        except BaseException:
            keep_logs(accounts, folder)
            raise
        finally:
            report(quiet, wild, administrator)
    try:
        check_that_the_site_is_as_before(site, compute, accounts)
    except BaseException:
        keep_logs(accounts, folder)
        raise


def live_together(lives: list[Quiet | Wild | Administrator]) -> None:
    """Everybody at once, until the end or until one has failed. Raises what the first raised."""
    over = threading.Event()
    with ThreadPoolExecutor(max_workers=len(lives)) as pool:
        futures = [pool.submit(life.live, over) for life in lives]
        failed, _ = wait(futures, timeout=60 * MINUTES, return_when=FIRST_EXCEPTION)
        over.set()
    for future in (*failed, *futures):
        future.result()


def report(quiet: list[Quiet], wild: list[Wild], administrator: Administrator) -> None:
    """Print how it went."""
    for one in quiet:
        longest = max(one.round_trips, default=0)
        print(f"quiet, {one.engine}: {len(one.round_trips)} round trips, the longest took {longest:.1f} s")
    for kind, users in (("quiet", quiet), ("wild", wild)):
        faults = sum((user.hand.faults_of_sdk for user in users), Counter())
        for fault, count in faults.items():
            print(f"{count:5} times in a {kind} user's SDK: {fault}")
    ends = sum((one.ends for one in wild), administrator.done)
    for what, count in sorted(ends.items()):
        print(f"{count:5} {what}")


def keep_logs(accounts: Iterable[str], folder: Path) -> None:
    """Keep each log, since all else is removed, and print its end."""
    shutil.rmtree(KEPT, ignore_errors=True)
    KEPT.mkdir(parents=True)
    logs = [path for name in accounts for path in Path(f"/home/{name}").glob(".globus_compute/*/endpoint.log")]
    for log in (*logs, *folder.glob("*.log"), *folder.glob("site/*.log")):
        shutil.copyfile(log, KEPT / "-".join(log.parts[-4:]).lstrip("/"))
        print(f"== {log}", *log.read_text(errors="replace").splitlines()[-30:], sep="\n")


def check_that_the_site_is_as_before(site: Manager, compute: Service, accounts: dict[str, int]) -> None:
    """All parts run, none of them had an accident, and nothing of anybody is left at the end."""
    assert site.broker.alive()
    assert site.spawner.alive()
    assert compute.daemon.alive()
    for log in (site.folder / "broker.log", site.folder / "spawner.log", site.folder.parent / "service.log"):
        accidents = [line for line in log.read_text(errors="replace").splitlines() if ACCIDENT.search(line)]
        assert not accidents, "\n".join([log.name, *accidents])
    site.stop()
    assert eventually(lambda: not any(processes_of(uid) for uid in accounts.values()), 180)
