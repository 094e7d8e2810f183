"""Who a child is, as the kernel shows it, and whom the policy doesn't let anybody become."""

import os
import pwd
import signal
from pathlib import Path

import msgpack
import pytest
from nss_rig import NameService
from process_trees import lives
from spawner_rig import MANAGER, PYTHON, Broker, Spawner, Start, acting_as, gone, sealed, uep
from twinlock_testbed.users import change_accounts
from twinlock_wire import wire

pytestmark = pytest.mark.system


def test_the_kernel_shows_the_mapped_user(start: Start, alice: pwd.struct_passwd, cgroup: str) -> None:
    broker = start({"environment": {"PATH": "/bin", "SITE": "x"}, "cgroup": cgroup}).connect()
    output = broker.spawn(1, alice.pw_name, stdin=b"the document")
    spawned = broker.receive(wire.Spawned)
    child = output.json()

    status = child["status"]
    assert status["Uid"].split() == [str(alice.pw_uid)] * 4
    assert status["Gid"].split() == [str(alice.pw_gid)] * 4
    assert set(status["Groups"].split()) == {str(alice.pw_gid)}
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "0"
    assert {status[name] for name in ("SigBlk", "SigCgt")} <= {"0" * 16, "0000000000000002"}  # Python catches SIGINT
    assert child["fds"] == [0, 1, 2]
    assert child["stdin"] == "the document"
    assert child["argv"][-1] == f"uep.{MANAGER}.{uep(1)}"
    assert child["pid"] == child["sid"] == spawned.pid
    assert child["umask"] == 0o077
    assert child["cwd"] == alice.pw_dir
    child["environment"].pop("LC_CTYPE", None)  # Python's own
    assert child["environment"] == {
        "PATH": "/bin",
        "SITE": "x",
        "LANG": "C.UTF-8",
        "HOME": alice.pw_dir,
        "USER": alice.pw_name,
        "LOGNAME": alice.pw_name,
        "SHELL": alice.pw_shell,
    }


def test_supplementary_groups_are_the_users(start: Start, bob: pwd.struct_passwd) -> None:
    """All of them, and none of the spawner's own."""
    change_accounts("usermod", "--append", "--groups", "games", bob.pw_name)
    try:
        broker = start(prefix=("setpriv", "--groups=0,4,24")).connect()
        output = broker.spawn(1, bob.pw_name)
        assert set(output.json()["status"]["Groups"].split()) == {str(bob.pw_gid), "60"}
    finally:
        change_accounts("usermod", "--groups", "", bob.pw_name)


REGAIN = """
import os
attempts = {
    "setuid": lambda: os.setuid(0), "seteuid": lambda: os.seteuid(0), "setresuid": lambda: os.setresuid(-1, 0, -1),
    "setgid": lambda: os.setgid(0), "setegid": lambda: os.setegid(0), "setgroups": lambda: os.setgroups([0]),
    "chroot": lambda: os.chroot("/"), "kill": lambda: os.kill(1, 0),
}
for name, attempt in attempts.items():
    try:
        attempt()
        print(name, end=" ")
    except PermissionError:
        pass
print("done", flush=True)
"""


@pytest.mark.parametrize("no_new_privs", [True, False])
def test_root_can_not_be_regained(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], no_new_privs: bool
) -> None:
    policy = {"no_new_privs": no_new_privs, "programs": {"regain": [*PYTHON, REGAIN]}}
    assert start(policy | mode).connect().spawn(1, alice.pw_name, "regain").line() == "done\n"


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("words", "stages"),
    [
        (("--bounding-set=-setgid", "--inh-caps=-setgid"), {"groups"}),
        (("--bounding-set=-setuid", "--inh-caps=-setuid"), {"uid"}),
        (("--bounding-set=-setpcap", "--inh-caps=-setpcap"), {"bounding", "capabilities"}),
    ],
    ids=["groups", "uid", "bounding-set"],
)
def test_a_change_of_identity_that_fails_is_the_end_of_the_child(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], words: tuple[str, ...], stages: set[str]
) -> None:
    broker = start(mode, ("setpriv", *words)).connect()
    output = broker.spawn(1, alice.pw_name)
    assert broker.receive(wire.Refused).stage in stages
    assert output.rest() == ""
    assert broker.children() == {}


@pytest.mark.parametrize(
    "words",
    [("--inh-caps=+net_raw,+chown",), ("--securebits=+no_setuid_fixup",)],
    ids=["inherited", "kept at a change of uid"],
)
def test_no_capability_of_the_spawner_is_passed_on(
    start: Start, alice: pwd.struct_passwd, mode: dict[str, str], words: tuple[str, ...]
) -> None:
    """A container's first process may have some that programs inherit, and flags that let them last."""
    broker = start(mode, ("setpriv", *words)).connect()
    status = broker.spawn(1, alice.pw_name).json()["status"]
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb", "CapBnd")} == {"0" * 16}


def test_a_child_starts_without_its_home(start: Start, alice: pwd.struct_passwd) -> None:
    home, away = Path(alice.pw_dir), Path(alice.pw_dir + "-away")
    home.rename(away)
    try:
        assert start(prefix=("env", "--chdir=/var")).connect().spawn(1, alice.pw_name).json()["cwd"] == "/"
    finally:
        away.rename(home)


@pytest.mark.parametrize(
    ("user", "stage", "reason"),
    [
        ("root", "policy", "is root, which no endpoint runs as"),
        ("daemon", "policy", "system account"),
        ("nobody", "policy", "system account"),
        ("no-such-account", "lookup", "name not found: 'no-such-account'"),
    ],
)
def test_accounts_that_nobody_becomes(start: Start, user: str, stage: str, reason: str) -> None:
    spawner = start()
    broker = spawner.connect()
    broker.spawn(1, user)
    refused = broker.receive(wire.Refused)
    assert (refused.id, refused.stage) == (uep(1), stage)
    assert reason in refused.reason
    assert broker.children() == {}
    assert not [line for line in spawner.audit() if line["event"] == "spawned"]


@pytest.mark.parametrize("user", ["root", "twl-toor"])
def test_no_policy_can_allow_uid_0(start: Start, names: NameService, user: str) -> None:
    broker = start({"system_uids": [], "deny_users": [], "deny_groups": []}, names.prefix).connect()
    broker.spawn(1, user)
    refused = broker.receive(wire.Refused)
    assert refused.stage == "policy"
    assert "is root, which no endpoint runs as" in refused.reason


_SYSTEM_UIDS = [-1, 1, 999, 60000, 64030, 64055, 65534, 65535, 2147352576, 4294967294]
_PEOPLES_UIDS = [1000, 59999, 65536, 200000, 1879048192, 2147352575]


def test_system_accounts_are_told_by_ranges(start: Start, names: NameService) -> None:
    """Packages give out uids above those of people (64055 is libvirt-qemu); directories give people large ones."""
    broker = start({"start_rate_per_user": 100}, names.prefix).connect()
    for number, uid in enumerate(_SYSTEM_UIDS):
        broker.spawn(number, f"twl-uid-{uid}")
        refused = broker.receive(wire.Refused)
        assert (refused.stage, f"its uid {uid} is in system_uids" in refused.reason) == ("policy", True)
    for number, uid in enumerate(_PEOPLES_UIDS, 100):
        output = broker.spawn(number, f"twl-uid-{uid}")
        assert output.json()["status"]["Uid"].split() == [str(uid)] * 4
        assert broker.receive(wire.Spawned).id == uep(number)
        assert broker.receive(wire.Exited).id == uep(number)


def test_the_brokers_own_uid_is_nobodys(start: Start, names: NameService, bob: pwd.struct_passwd) -> None:
    """By whatever name, and in whatever range it is."""
    broker = _start_for(bob, start, names.prefix)
    for number, name in enumerate((bob.pw_name, f"twl-uid-{bob.pw_uid}")):
        broker.spawn(number, name)
        assert "is the broker's own" in broker.receive(wire.Refused).reason


@pytest.mark.parametrize("name", ["sudo", "shadow", "staff", "disk"])
def test_groups_as_good_as_root_are_denied(start: Start, bob: pwd.struct_passwd, name: str) -> None:
    change_accounts("usermod", "--append", "--groups", name, bob.pw_name)
    try:
        broker = start().connect()
        broker.spawn(1, bob.pw_name)
        refused = broker.receive(wire.Refused)
    finally:
        change_accounts("usermod", "--groups", "", bob.pw_name)
    assert refused.stage == "policy"
    assert f"is in the group {name}, which is in deny_groups" in refused.reason


def test_a_denied_group_counts_by_its_gid(start: Start, bob: pwd.struct_passwd) -> None:
    """Another name of it may be the one that the account's membership is by; a group that isn't there is nobody's."""
    alias = f"twl-games{os.getpid()}"
    change_accounts("groupadd", "--non-unique", "--gid", "60", alias)
    try:
        change_accounts("usermod", "--append", "--groups", "games", bob.pw_name)
        broker = start({"deny_groups": ["no-such-group", alias]}).connect()
        broker.spawn(1, bob.pw_name)
        assert f"is in the group {alias}" in broker.receive(wire.Refused).reason
    finally:
        change_accounts("usermod", "--groups", "", bob.pw_name)
        change_accounts("groupdel", "--force", alias)  # it is the first group of an account, by its gid


def test_an_accounts_first_group_may_be_denied_as_well(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"deny_groups": [alice.pw_name]}).connect()
    broker.spawn(1, alice.pw_name)
    assert f"is in the group {alice.pw_name}" in broker.receive(wire.Refused).reason


def test_the_brokers_group_is_nobodys(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd) -> None:
    """Who is in it reaches the socket, and reads what the broker reads."""
    broker = _start_for(bob, start)
    change_accounts("usermod", "--append", "--groups", bob.pw_name, alice.pw_name)
    try:
        broker.spawn(1, alice.pw_name)
        refused = broker.receive(wire.Refused)
    finally:
        change_accounts("usermod", "--groups", "", alice.pw_name)
    assert (refused.stage, "is in the broker's own group" in refused.reason) == ("policy", True)


@pytest.mark.parametrize("form", ["{uid}", "0", "+{uid}", "#{uid}"])
def test_a_number_names_no_account(start: Start, alice: pwd.struct_passwd, form: str) -> None:
    """Ids never come in: what would be one is no account's name, or not even a legal message."""
    broker = start().connect()
    request = {"type": "spawn", "id": uep(1), "user": form.format(uid=alice.pw_uid)}
    request |= {"name": f"uep.{MANAGER}.{uep(1)}", "program": "report"}
    _reader, writer = os.pipe()
    broker.send_bytes(msgpack.packb(request), [sealed(), writer])
    if form[0] in "+#":
        assert broker.hung_up()
    else:
        assert broker.receive(wire.Refused).stage == "lookup"


def test_another_name_of_an_account_is_refused(start: Start, names: NameService) -> None:
    """The limits of an account would count for each of its names."""
    broker = start(prefix=names.prefix).connect()
    broker.spawn(1, "twl-alias")
    refused = broker.receive(wire.Refused)
    assert refused.stage == "policy"
    assert "another name of twl-real" in refused.reason


def test_a_lookup_that_hangs_is_ended_and_holds_nobody_up(
    start: Start, names: NameService, alice: pwd.struct_passwd, bob: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    spawner = start({"exec_timeout": 10} | mode, names.prefix)
    broker = spawner.connect()
    with names.hangs(alice.pw_name):
        broker.spawn(1, alice.pw_name, "sleep")
        hanging = names.asked_by(spawner.process.pid)
        broker.spawn(2, bob.pw_name, "sleep").line()
        told = [wire.decode(broker.socket.recv(wire.MAX_DATAGRAM), wire.REPLIES) for _ in range(2)]
    spawned, refused = sorted(told, key=lambda reply: isinstance(reply, wire.Refused))  # the test may be slow to ask
    assert (type(spawned), spawned[0]) == (wire.Spawned, uep(2))
    assert refused[:2] == (uep(1), "timeout")
    assert gone(hanging)
    assert list(broker.children()) == [uep(2)]


def test_name_services_are_the_childs_business(
    start: Start, names: NameService, alice: pwd.struct_passwd, mode: dict[str, str]
) -> None:
    spawner = start(mode, names.prefix)
    with names.hangs(alice.pw_name):
        spawner.connect().spawn(1, alice.pw_name)
        assert names.asked_by(spawner.process.pid)
        assert "libnss_twltest" not in Path(f"/proc/{spawner.process.pid}/maps").read_text()


def test_a_start_is_in_its_cgroup_from_the_beginning(
    start: Start, names: NameService, alice: pwd.struct_passwd, cgroup: str
) -> None:
    """So what a name service's module starts for it ends with it."""
    spawner = start({"cgroup": cgroup}, names.prefix)
    with names.hangs(alice.pw_name):
        spawner.connect().spawn(1, alice.pw_name)
        asking = names.asked_by(spawner.process.pid)
        own = Path(cgroup, str(spawner.process.pid), f"u-{alice.pw_name}", uep(1), "cgroup.procs")
        assert own.read_text().split() == [str(asking)]


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"allow_groups": ["games"]}, "groups"),
        ({"allowed_shells": ["/bin/bash"]}, "shell"),
        ({"system_uids": [[20000, 29999]]}, "system account"),
        ({"allow_groups": ["no-such-group"]}, "groups"),
    ],
)
def test_the_policy_narrows_who_is_allowed(
    start: Start, alice: pwd.struct_passwd, policy: dict[str, object], reason: str
) -> None:
    broker = start(policy).connect()
    broker.spawn(1, alice.pw_name)
    refused = broker.receive(wire.Refused)
    assert refused.stage == "policy"
    assert reason in refused.reason


def test_the_policy_denies_an_account_by_name(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"deny_users": [alice.pw_name]}).connect()
    broker.spawn(1, alice.pw_name)
    assert "is in deny_users" in broker.receive(wire.Refused).reason


def test_the_policy_can_allow_what_it_asks_for(start: Start, alice: pwd.struct_passwd) -> None:
    groups = ["no-such-group", "games", alice.pw_name]
    broker = start({"allow_groups": groups, "allowed_shells": [alice.pw_shell]}).connect()
    broker.spawn(1, alice.pw_name)
    broker.receive(wire.Spawned)


def test_new_privileges_are_the_policys_choice(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"no_new_privs": False}).connect()
    assert broker.spawn(1, alice.pw_name).json()["status"]["NoNewPrivs"] == "0"


def _start_for(account: pwd.struct_passwd, start: Start, prefix: tuple[str, ...] = ()) -> Broker:
    """A broker that runs as that account; it has the group that the socket is for."""
    spawner = start({"broker_user": account.pw_name}, prefix)
    os.chown(spawner.socket, account.pw_uid, -1)
    return _connect_as(spawner, account)


def _connect_as(spawner: Spawner, account: pwd.struct_passwd) -> Broker:
    """A broker that runs as that account."""
    with acting_as(account):
        return spawner.connect()


def _connect_without_root(
    start: Start, account: pwd.struct_passwd, cgroup: str = "", prefix: tuple[str, ...] = ()
) -> Broker:
    """A spawner and a broker that both run as that account."""
    prefix = prefix or ("setpriv", f"--reuid={account.pw_name}", f"--regid={account.pw_name}", "--clear-groups")
    home = Path(account.pw_dir)
    own = {"broker_user": account.pw_name, "audit_log": str(home / "audit.log"), "socket": str(home / "spawner.sock")}
    return _connect_as(start({**own, "cgroup": cgroup, "deny_groups": [account.pw_name]}, prefix), account)


def test_without_root_only_the_own_account(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd) -> None:
    broker = _connect_without_root(start, alice)
    broker.spawn(1, bob.pw_name)
    assert broker.receive(wire.Refused).stage == "readback"  # its own groups stay as they are, so none is denied
    child = broker.spawn(2, alice.pw_name).json()
    assert child["status"]["Uid"].split() == [str(alice.pw_uid)] * 4


def test_without_root_a_cgroup_is_ended(
    start: Start, cgroup: str, delegated: tuple[str, ...], alice: pwd.struct_passwd
) -> None:
    """One that systemd has delegated to the account; its kill file is for writing only."""
    broker = _connect_without_root(start, alice, cgroup, delegated)
    daemon = int(broker.spawn(1, alice.pw_name, "daemon").line())
    [own] = Path(cgroup).glob(f"*/*/{uep(1)}")
    broker.receive(wire.Spawned)
    broker.send(wire.Signal(uep(1), "KILL"))
    assert broker.receive(wire.Exited).status == signal.SIGKILL
    assert (lives(daemon), own.exists()) == (False, False)


def test_without_root_a_guard_that_is_killed_takes_only_its_endpoint_along(
    start: Start, alice: pwd.struct_passwd
) -> None:
    """Though all that there is runs under one account, the guards too."""
    broker = _connect_without_root(start, alice)
    daemons = []
    for number in (1, 2):
        daemons.append(int(broker.spawn(number, alice.pw_name, "daemon").line()))
        guard = broker.receive(wire.Spawned).pid
    os.kill(guard, signal.SIGKILL)
    assert broker.receive(wire.Exited).id == uep(2)
    assert [lives(daemon) for daemon in daemons] == [True, False]
    assert broker.children()[uep(1)].ended is None
