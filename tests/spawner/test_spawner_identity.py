"""Who a child is, as the kernel shows it, and whom the policy doesn't let anybody become."""

import os
import pwd
from pathlib import Path

import pytest
from spawner_rig import MANAGER, Start, uep
from twinlock_shared import wire
from twinlock_testbed.daemons import run

pytestmark = pytest.mark.system


def test_the_kernel_shows_the_mapped_user(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"environment": {"PATH": "/bin", "SITE": "x"}}).connect()
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
    run("usermod", "--append", "--groups", "games", bob.pw_name)
    try:
        broker = start().connect()
        output = broker.spawn(1, bob.pw_name)
        assert set(output.json()["status"]["Groups"].split()) == {str(bob.pw_gid), "60"}
    finally:
        run("usermod", "--groups", "", bob.pw_name)


def test_a_child_starts_without_its_home(start: Start, alice: pwd.struct_passwd) -> None:
    home, away = Path(alice.pw_dir), Path(alice.pw_dir + "-away")
    home.rename(away)
    try:
        assert start().connect().spawn(1, alice.pw_name).json()["cwd"] == "/"
    finally:
        away.rename(home)


@pytest.mark.parametrize(
    ("user", "stage", "reason"),
    [
        ("root", "policy", "system account"),
        ("daemon", "policy", "system account"),
        ("nobody", "policy", "denied"),
        ("no-such-account", "lookup", "no local account no-such-account"),
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


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"allow_groups": ["games"]}, "groups"),
        ({"allowed_shells": ["/bin/bash"]}, "shell"),
        ({"deny_users": ["twl-alice"]}, "denied"),
        ({"min_uid": 60000}, "system account"),
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


def test_the_policy_can_allow_what_it_asks_for(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"allow_groups": ["games", alice.pw_name], "allowed_shells": [alice.pw_shell]}).connect()
    broker.spawn(1, alice.pw_name)
    broker.receive(wire.Spawned)


def test_new_privileges_are_the_policys_choice(start: Start, alice: pwd.struct_passwd) -> None:
    broker = start({"no_new_privs": False}).connect()
    assert broker.spawn(1, alice.pw_name).json()["status"]["NoNewPrivs"] == "0"


def test_without_root_only_the_own_account(start: Start, alice: pwd.struct_passwd, bob: pwd.struct_passwd) -> None:
    prefix = ("setpriv", f"--reuid={alice.pw_name}", f"--regid={alice.pw_name}", "--clear-groups")
    home = Path(alice.pw_dir)
    own = {"broker_user": alice.pw_name, "audit_log": str(home / "audit.log"), "socket": str(home / "spawner.sock")}
    spawner = start(own, prefix)
    os.seteuid(alice.pw_uid)  # what SO_PEERCRED shows is the effective uid of connect(2)
    try:
        broker = spawner.connect()
    finally:
        os.seteuid(0)
    broker.spawn(1, bob.pw_name)
    assert broker.receive(wire.Refused).stage == "policy"
    child = broker.spawn(2, alice.pw_name).json()
    assert child["status"]["Uid"].split() == [str(alice.pw_uid)] * 4
