"""The demonstration: it works without root, and an interruption at any moment leaves nothing."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from site_rig import eventually
from twinlock_testbed.cgroup import cgroup_folder, remove_cgroup
from twinlock_testbed.daemons import Daemon
from twinlock_testbed.demo_site import USERS
from twinlock_testbed.users import BROKER, processes_of, throw_away
from twinlock_testbed.verified.site import STRANGER

pytestmark = pytest.mark.system

PREFIX = Path(os.environ.get("TWINLOCK_PREFIX", sys.prefix))
ROOT = Path(__file__).parents[2]
TESTBED = ROOT / "testbed"


@pytest.fixture
def selma() -> Iterator[pwd.struct_passwd]:
    """Someone who wants to try it on a machine that isn't theirs."""
    with throw_away("twl-selma") as account:
        yield account


def start(code: Path, folder: Path, *words: str, user: pwd.struct_passwd | None = None) -> Daemon:
    argv: list[str | Path] = [PREFIX / "bin/python", "-m", "twinlock_testbed", "--prefix", PREFIX, *words]
    environment = {"PYTHONPATH": str(code), "HOME": user.pw_dir if user else str(folder)}
    return Daemon("demo", argv, folder / "demo.log", user=user and user.pw_name, environment=environment)


def left() -> set[Path | str]:
    """Folders and cgroups of demonstrations, and accounts by the names that they have there."""
    cgroups = Path(cgroup_folder(Path("x/y"))).parent.glob("twinlock-twinlock-*")
    accounts = {row.pw_name for row in pwd.getpwall()} & {*USERS, STRANGER, BROKER, "twl-service"}
    return {*Path("/var/tmp").glob("twinlock-*"), *cgroups, *accounts}


@pytest.fixture
def before() -> set[Path | str]:
    """What there is of others: the account that the packages make, for example."""
    return left()


@pytest.mark.thorough
def test_without_root_it_serves_its_own_user(selma: pwd.struct_passwd, tmp_path: Path, before: set[Path | str]) -> None:
    home = Path(selma.pw_dir)
    code = shutil.copytree(TESTBED, home / "testbed")
    demo = start(code, tmp_path, user=selma)
    assert eventually(lambda: not demo.alive(), 400), demo.output()
    assert demo.stop() == 0, demo.output()
    assert f"uid {selma.pw_uid}" in demo.output()
    assert not processes_of(selma.pw_uid)
    assert not list((home / ".globus_compute").glob("uep.*"))
    assert left() <= before


@pytest.mark.parametrize(
    ("option", "reason"),
    [
        ("--slurm", "SLURM=1 needs root: a private Slurm runs jobs as other users"),
        ("--verified", "VERIFIED=1 needs root: what an endpoint in verified mode believes has to be root's"),
    ],
)
def test_without_root_there_is_only_the_plain_one(
    selma: pwd.struct_passwd, tmp_path: Path, option: str, reason: str
) -> None:
    demo = start(shutil.copytree(TESTBED, Path(selma.pw_dir) / "testbed"), tmp_path, option, user=selma)
    assert eventually(lambda: not demo.alive(), 180)
    assert demo.stop() == os.EX_UNAVAILABLE
    assert demo.output().splitlines() == [f"make demo: {reason}"]


@pytest.mark.thorough
def test_a_hostile_broker_tries_and_fails(tmp_path: Path, before: set[Path | str]) -> None:
    """Two users with keys get their results, a third gets none, and each attempt has its line of a log."""
    demo = start(TESTBED, tmp_path, "--verified")
    assert eventually(lambda: not demo.alive(), 400), demo.output()
    assert demo.stop() == 0, demo.output()
    attempts = re.findall(r"\] attempt \d+: .*\n((?: {12}.*\n)+)", demo.output())
    assert len(attempts) == 11, demo.output()
    outcomes = [" ".join(text.split()) for text in attempts]
    logs = [text for text in outcomes if text.startswith("refused: ")]
    assert len(logs) == 6
    assert all(" is refused: " in log for log in logs), logs
    assert "11 attempts; nothing has run but what twl-ada had signed" in demo.output()
    assert "no result for twl-eve, whose key isn't known" in demo.output()
    assert left() <= before


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder of root's, with nothing but folders that everybody may enter above it."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="closed folder ") as name:
        yield Path(name)


@pytest.mark.parametrize("target", ["demo", "test"])
@pytest.mark.parametrize("mode", [0o700, 0o750])
def test_a_prefix_that_other_accounts_cannot_enter_is_told_at_once(closed: Path, target: str, mode: int) -> None:
    closed.chmod(mode)
    argv = ["make", "--no-print-directory", target, f"PREFIX={closed}/deep/prefix"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=180, check=False)
    sentence, *rest = done.stderr.splitlines()
    assert (done.stdout, len(rest)) == ("", 1), done  # the other line is make's own
    assert all(words in sentence for words in (str(closed), "PREFIX=DIR", f"chmod a+x '{closed}'")), sentence
    assert done.returncode != 0
    assert list(closed.iterdir()) == []


def test_a_prefix_that_everybody_can_enter_is_taken(closed: Path) -> None:
    closed.chmod(0o755)
    argv = [ROOT / "packaging/reachable", closed / "deep"]
    done = subprocess.run(argv, capture_output=True, timeout=180, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.cases(1)
@pytest.mark.slurm
@pytest.mark.parametrize("moment", ["making users", "starting RabbitMQ", "starting twinlock-spawner", "submits"])
def test_an_interruption_leaves_nothing(tmp_path: Path, before: set[Path | str], moment: str) -> None:
    demo = start(TESTBED, tmp_path, "--slurm")
    demo.wait_for_line(moment, 180)
    for _ in range(2):  # an impatient person
        os.kill(demo.pid, signal.SIGINT)
    assert eventually(lambda: not demo.alive(), 180)
    assert demo.stop() == 128 + signal.SIGINT
    assert "interrupted" in demo.output().splitlines()[-1]
    assert left() <= before


def test_a_cgroup_folder_is_removed_with_what_is_alive_in_it() -> None:
    folder = Path(f"/tests/demo{os.getpid()}")
    if not (top := cgroup_folder(folder)):
        pytest.skip("needs a cgroup v2 hierarchy that can be written to")
    inner = Path(top, "1", "2")
    inner.mkdir(parents=True)
    with subprocess.Popen(["/bin/sleep", "60"]) as left:
        (inner / "cgroup.procs").write_text(str(left.pid))
        remove_cgroup(folder)
        assert left.wait(60) == -signal.SIGKILL
    assert not Path(top).exists()
