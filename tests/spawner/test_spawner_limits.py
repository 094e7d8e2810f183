"""What endpoints and accounts may use at most, by their cgroups: the kernel keeps it, and nothing of it is left.

The spawner is started in the cgroup that the policy names, as systemd starts it. hugetlb is the controller that
version 2 of cgroups has on most hosts, also where the others belong to version 1; the kernel rounds its values.
"""

import fcntl
import json
import os
import pwd
import select
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hanging_home import answer_init, home_that_hangs, take_request
from proc_rig import PATIENCE
from process_trees import children, eventually, guards, keeper_of, lives
from spawner_rig import PYTHON, Broker, Spawner, Start, gone, remove_cgroups, uep, write_policy
from spawner_versions import Version
from twinlock_spawner import cgroups
from twinlock_wire import wire

pytestmark = pytest.mark.system

PAGE = 2 << 20
FILE = "hugetlb.2MB.rsvd.max"
ONE_PAGE = {FILE: "2M"}
TWO_PAGES = {FILE: "4M"}

# Takes as many huge pages as it gets, three at most, says how many, and keeps them.
TAKE = """
import mmap, signal
pages = []
try:
    while len(pages) < 3:
        pages.append(mmap.mmap(-1, 2 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000))
except OSError:
    pass
print(len(pages), flush=True)
signal.pause()
"""
PROGRAMS = {"take": [*PYTHON, TAKE]}


@pytest.fixture
def folder(cgroup: str) -> Path:
    """A cgroup for a spawner that has the controller hugetlb, as systemd gives every controller with Delegate=yes.

    When the spawner is stopped, see `start`, it is removed.
    """
    folder = Path(cgroup)
    if "hugetlb" not in (folder.parent / "cgroup.controllers").read_text().split():
        pytest.skip("needs the controller hugetlb of cgroup v2")
    (folder.parent / "cgroup.subtree_control").write_text("+hugetlb")
    folder.mkdir()
    return folder


@pytest.fixture
def removed(folder: Path) -> Iterator[Path]:
    """The same for spawners that don't start."""
    yield folder
    remove_cgroups(folder)


@pytest.fixture
def pages() -> Iterator[None]:
    """The kernel makes huge pages when they are asked for, as many more as a test takes: it has joined free memory."""
    Path("/proc/sys/vm/compact_memory").write_text("1")
    _let_overcommit(8)
    yield
    _let_overcommit(-8)


def _let_overcommit(more: int) -> None:
    """Add to the huge pages that the kernel makes when asked; other runs of these tests may do so, too."""
    path = Path("/proc/sys/vm/nr_overcommit_hugepages")
    with open("/run/lock/twinlock-tests-huge-pages", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path.write_text(str(max(0, int(path.read_text()) + more)))


def inside(folder: Path) -> tuple[str, ...]:
    """Words before the command of a spawner that is started in the cgroup `folder`."""
    return ("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh")


def _policy(folder: Path, **values: Any) -> dict[str, Any]:
    return {"cgroup": str(folder), "programs": PROGRAMS, **values}


def _take(broker: Broker, number: int, account: pwd.struct_passwd) -> int:
    """How many huge pages a new endpoint gets."""
    pages = int(broker.spawn(number, account.pw_name, "take").line())
    broker.receive(wire.Spawned)
    return pages


def _of(spawner: Spawner, account: pwd.struct_passwd) -> Path:
    """The folder of an account's endpoints."""
    return Path(spawner.cgroup, str(spawner.process.pid), f"u-{account.pw_name}")


def _change(spawner: Spawner, **values: Any) -> None:
    """Change keys of the policy file, and have the spawner take it over."""
    old = tomllib.loads((spawner.folder / "policy.toml").read_text())
    write_policy(spawner.folder, old | values)
    spawner.process.send_signal(signal.SIGHUP)


def _reload(spawner: Spawner, **values: Any) -> Broker:
    before = spawner.said.count()
    _change(spawner, **values)
    spawner.said.wait_for('"started"', after=before)
    return spawner.connect()


def _reload_fails(spawner: Spawner, **values: Any) -> str:
    """Change keys of the policy file; why the spawner stays as it is."""
    before = spawner.said.count()
    _change(spawner, **values)
    return str(json.loads(spawner.said.wait_for('"reload-failed"', after=before))["reason"])


def _end(broker: Broker, number: int) -> None:
    broker.send(wire.Signal(uep(number), "KILL"))
    assert broker.receive(wire.Exited).id == uep(number)
    broker.send(wire.Noted(uep(number)))


def _run(folder: Path, *words: str, **values: Any) -> "subprocess.CompletedProcess[str]":
    """A spawner with its files in the folder, one that ends."""
    paths = {"socket": str(folder / "spawner.sock"), "audit_log": str(folder / "audit.log")}
    write_policy(folder, {"broker_user": "root", "allow_groups": ["daemon"]} | paths | values)
    argv = [sys.executable, "-m", "twinlock_spawner", "--policy", str(folder / "policy.toml"), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd="/", check=False)


@pytest.mark.usefixtures("pages")
def test_an_endpoint_gets_no_more_than_its_limit(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    """Each endpoint of an account has its own."""
    broker = start(_policy(folder, limits=ONE_PAGE), inside(folder)).connect()
    assert [_take(broker, number, alice) for number in (1, 2)] == [1, 1]


@pytest.mark.usefixtures("pages")
def test_an_account_gets_no_more_than_its_limit(
    start: Start, folder: Path, alice: pwd.struct_passwd, bob: pwd.struct_passwd
) -> None:
    """However many endpoints it has, and another account has its own."""
    broker = start(_policy(folder, user_limits=TWO_PAGES), inside(folder)).connect()
    taken = [_take(broker, number, account) for number, account in enumerate((alice, alice, bob), 1)]
    assert taken == [2, 0, 2]


@pytest.mark.usefixtures("pages")
def test_both_limits_hold_with_a_pam_session(start: Start, folder: Path, plain: str, alice: pwd.struct_passwd) -> None:
    """The guards, which have to survive the endpoint, are in neither of its cgroups."""
    policy = _policy(folder, pam_service=plain, limits=TWO_PAGES, user_limits={FILE: "6M"})
    spawner = start(policy, inside(folder))
    broker = spawner.connect()
    assert [_take(broker, number, alice) for number in (1, 2)] == [2, 1]
    for row in broker.children().values():
        for guard in guards(row.pid):
            assert "/u-" not in Path(f"/proc/{guard}/cgroup").read_text()


def test_each_file_has_its_value(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    policy = _policy(folder, limits={"hugetlb.2MB.max": "2M"}, user_limits={"hugetlb.2MB.max": "8M", FILE: "10M"})
    spawner = start(policy, inside(folder))
    spawner.connect().spawn(1, alice.pw_name, "sleep").line()
    account = _of(spawner, alice)
    assert int((account / "hugetlb.2MB.max").read_text()) == 4 * PAGE
    assert int((account / FILE).read_text()) == 5 * PAGE
    assert int((account / uep(1) / "hugetlb.2MB.max").read_text()) == PAGE
    assert int((account / uep(1) / FILE).read_text()) > 5 * PAGE


def test_an_accounts_cgroup_goes_with_its_last_endpoint(
    start: Start, folder: Path, alice: pwd.struct_passwd, bob: pwd.struct_passwd
) -> None:
    spawner = start(_policy(folder, user_limits=ONE_PAGE), inside(folder))
    broker = spawner.connect()
    for number, account in enumerate((alice, alice, bob), 1):
        broker.spawn(number, account.pw_name, "sleep").line()
        broker.receive(wire.Spawned)
    for number, left in ((1, [True, True]), (3, [True, False]), (2, [False, False])):
        _end(broker, number)
        assert [_of(spawner, account).exists() for account in (alice, bob)] == left


def test_the_spawner_leaves_the_cgroup_in_which_it_was_started(
    start: Start, folder: Path, alice: pwd.struct_passwd
) -> None:
    """The kernel takes no limits below a process. So do those that an earlier policy has left there, and they go on."""
    spawner = start(_policy(folder), inside(folder))
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    keeper = keeper_of(spawner.process.pid)
    own = {
        str(spawner.process.pid),
        str(keeper),
    }  # and for a moment one that helps it to close what came with the start
    assert eventually(lambda: {*(folder / "cgroup.procs").read_text().split()} == own)
    broker = _reload(spawner, limits=ONE_PAGE)
    broker.spawn(2, alice.pw_name, "sleep").line()
    assert broker.receive(wire.Spawned).id == uep(2)
    assert (folder / "cgroup.procs").read_text() == ""
    assert {*children(spawner.process.pid)} >= {keeper}
    assert broker.children().keys() == {uep(1), uep(2)}


def test_who_is_moved_out_of_the_cgroup_is_spared(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    """A start ends what is in folders of the cgroup, but not who was in the cgroup itself."""
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        (folder / "cgroup.procs").write_text(str(stranger.pid))
        start(_policy(folder, limits=ONE_PAGE)).connect().spawn(1, alice.pw_name, "sleep").line()
        assert (folder / "spawner/cgroup.procs").read_text().split() == [str(stranger.pid)]
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait(60)


def test_a_limit_that_the_kernel_refuses_ends_the_start(removed: Path, tmp_path: Path) -> None:
    """The text has the file and the value; no folder is left, and a process can be put into the cgroup again."""
    for values in ({"limits": {FILE: "a lot"}}, {"user_limits": {FILE: "a lot"}}, {"limits": {"hugetlb.max": "a lot"}}):
        done = _run(tmp_path, cgroup=str(removed), **values)
        [[file]] = [[*table] for table in values.values()]
        assert done.returncode == os.EX_CONFIG
        assert f"/{file}'" in done.stderr
        assert [file == "hugetlb.max", "on writing 'a lot'" in done.stderr] in ([True, False], [False, True])
        assert [*removed.glob("*/")] == []
        assert (removed / "cgroup.subtree_control").read_text().strip() == ""


def test_a_controller_that_the_cgroup_does_not_have(removed: Path, tmp_path: Path) -> None:
    """It is told by --check, where the folder is there, and at the start, which makes the folder."""
    inner = removed / "inner"  # it has no controllers, since `removed` gives it none
    wrong = f"{inner} has no controller hugetlb, its cgroup.controllers are none"
    assert _run(tmp_path, "--check", cgroup=str(inner), limits=ONE_PAGE).returncode == 0
    for words in ((), ("--check",)):
        done = _run(tmp_path, *words, cgroup=str(inner), limits=ONE_PAGE)
        assert (done.returncode, wrong in done.stderr) == (os.EX_CONFIG, True)
    assert _run(tmp_path, "--check", cgroup=str(removed), limits=ONE_PAGE).returncode == 0


def test_a_start_whose_limits_can_not_be_set(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    """It is refused with the file's name, and leaves nothing; when the way is free, it is carried out."""
    spawner = start(_policy(folder, limits=ONE_PAGE), inside(folder))
    broker = spawner.connect()
    own = folder / str(spawner.process.pid)
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        (own / "cgroup.procs").write_text(str(stranger.pid))
        broker.spawn(1, alice.pw_name, "sleep")
        refused = broker.receive(wire.Refused)
        assert refused.stage == "cgroup"
        assert refused.reason.endswith(f"on writing '+hugetlb': '{own}/cgroup.subtree_control'")
        assert [*own.glob("*/")] == []
        (folder.parent / "cgroup.procs").write_text(str(stranger.pid))
        broker.spawn(1, alice.pw_name, "sleep").line()
        broker.receive(wire.Spawned)
    finally:
        stranger.kill()
        stranger.wait(60)


@pytest.mark.usefixtures("pages")
def test_new_limits_count_from_the_next_start_on(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    """For endpoints that are new; and for the account, whose limit is then another for those that it has."""
    spawner = start(_policy(folder, limits=ONE_PAGE, user_limits=TWO_PAGES), inside(folder))
    assert _take(spawner.connect(), 1, alice) == 1
    broker = _reload(spawner, limits=TWO_PAGES, user_limits={FILE: "6M"})
    account = _of(spawner, alice)
    assert int((account / FILE).read_text()) == 2 * PAGE
    assert _take(broker, 2, alice) == 2
    assert int((account / FILE).read_text()) == 3 * PAGE
    assert int((account / uep(1) / FILE).read_text()) == PAGE
    broker = _reload(spawner, limits={}, user_limits={})
    broker.spawn(3, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    assert int((account / uep(3) / FILE).read_text()) > 3 * PAGE


def test_new_limits_that_can_not_be_kept_do_not_take_over(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    spawner = start(_policy(folder, limits=ONE_PAGE), inside(folder))
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    pid = broker.receive(wire.Spawned).pid
    inner = folder / "inner"
    inner.mkdir()
    assert "has no controller hugetlb" in _reload_fails(spawner, cgroup=str(inner / "x"))
    assert "on writing 'a lot'" in _reload_fails(spawner, cgroup=str(folder), limits={FILE: "a lot"})
    assert broker.children()[uep(1)].pid == pid
    broker.spawn(2, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    assert int((_of(spawner, alice) / uep(2) / FILE).read_text()) == PAGE


def test_a_spawner_that_stops_leaves_the_cgroup_as_it_was(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    """By itself, since a service manager may kill the keeper; with a controller left, no process could enter."""
    spawner = start(_policy(folder, limits=ONE_PAGE), inside(folder))
    broker = spawner.connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    assert (folder / "cgroup.subtree_control").read_text().split() == ["hugetlb"]
    keeper = os.pidfd_open(keeper_of(spawner.process.pid))
    signal.pidfd_send_signal(keeper, signal.SIGKILL)
    assert select.select([keeper], [], [], PATIENCE)[0]
    os.close(keeper)
    spawner.process.terminate()
    assert spawner.process.wait(60) == 0
    assert (folder / "cgroup.subtree_control").read_text().split() == []
    assert [place.name for place in folder.glob("*/")] == ["spawner"]
    subprocess.run([*inside(folder), "true"], check=True, timeout=60)


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="needs /dev/fuse, for a file system that hangs")
def test_who_cannot_be_killed_keeps_no_spawner_out_of_the_cgroup(
    start: Start, folder: Path, alice: pwd.struct_passwd
) -> None:
    """The limits of a process that is to die are given up for that."""
    spawner = start(_policy(folder, limits=ONE_PAGE), inside(folder))
    with home_that_hangs(Path(alice.pw_dir)) as device:
        answer_init(device)
        spawner.connect().spawn(1, alice.pw_name)
        take_request(device)
        spawner.process.terminate()
        assert spawner.process.wait(60) == 0
        assert (_of(spawner, alice) / uep(1) / "cgroup.procs").read_text() != ""
        assert (folder / "cgroup.subtree_control").read_text().split() == []
        subprocess.run([*inside(folder), "true"], check=True, timeout=60)


def test_what_a_killed_spawner_leaves_is_cleared_by_its_keeper(
    start: Start, folder: Path, alice: pwd.struct_passwd
) -> None:
    spawner = start(_policy(folder, limits=ONE_PAGE), inside(folder))
    broker = spawner.connect()
    daemon = int(broker.spawn(1, alice.pw_name, "daemon").line())
    keeper = keeper_of(spawner.process.pid)
    spawner.process.kill()
    spawner.process.wait(60)
    assert gone(keeper)
    assert not lives(daemon)
    assert (folder / "cgroup.subtree_control").read_text().split() == []
    assert [place.name for place in folder.glob("*/")] == ["spawner"]
    subprocess.run([*inside(folder), "true"], check=True, timeout=60)


def test_the_next_spawner_starts_in_the_same_cgroup(start: Start, folder: Path, alice: pwd.struct_passwd) -> None:
    """As systemd starts it again, in the cgroup itself, where nothing of the first is in its way."""
    first = start(_policy(folder, limits=ONE_PAGE), inside(folder))
    first.connect().spawn(1, alice.pw_name, "sleep").line()
    first.process.terminate()
    first.process.wait(60)
    broker = start(_policy(folder, limits=ONE_PAGE), inside(folder)).connect()
    broker.spawn(1, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)


def _older(text: str) -> str:
    """The module `cgroups` of a version whose endpoints have no folder of their account's."""
    new = "/{_PREFIX}{user}/{id}"
    assert new in text
    return text.replace(new, "/{id}")


def test_endpoints_of_a_version_without_accounts_folders(
    version: Version, folder: Path, alice: pwd.struct_passwd
) -> None:
    """They are taken over, and end without a trace; the folder in which they were stays, as the keeper knows it."""
    new = Path(str(cgroups.__file__)).read_text()
    version.change("twinlock_spawner/cgroups.py", _older)
    spawner = version.start(_policy(folder))
    old = spawner.connect()
    daemon = int(old.spawn(1, alice.pw_name, "daemon").line())
    pid = old.receive(wire.Spawned).pid
    own = folder / str(spawner.process.pid)
    assert (own / uep(1)).exists()
    version.change("twinlock_spawner/cgroups.py", lambda _: new)
    broker = _reload(spawner, limits=ONE_PAGE)
    assert broker.children()[uep(1)].pid == pid
    _end(broker, 1)
    assert not lives(daemon)
    assert own.exists()
    assert [*own.glob("*/")] == []
    broker.spawn(2, alice.pw_name, "sleep").line()
    broker.receive(wire.Spawned)
    assert int((_of(spawner, alice) / uep(2) / FILE).read_text()) == PAGE
