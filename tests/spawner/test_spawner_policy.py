"""The policy file: a bad one is named with its key and reason, and nothing is opened."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from spawner_rig import UNMEASURED, Start
from twinlock_spawner.policy import Policy

GOOD = """\
broker_user = "nobody"
socket = "{folder}/spawner.sock"
audit_log = "{folder}/audit.log"
allow_groups = ["daemon"]
[programs]
endpoint = ["/bin/true"]
"""


def check(folder: Path, text: str, *words: str, **how: Any) -> "subprocess.CompletedProcess[str]":
    path = folder / "policy.toml"
    path.write_text(text.replace("{folder}", str(folder)))
    argv = [sys.executable, "-m", "twinlock_spawner", "--policy", str(path), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, **how)


def test_a_good_policy(tmp_path: Path) -> None:
    done = check(tmp_path, GOOD, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.cases(4)
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("broker_user", "brokr_user"), ["brokr_user: there is no such key; did you mean broker_user?"]),
        (
            ("[programs]", 'deny_user = ["x"]\n[programs]'),
            ["deny_user: there is no such key; did you mean deny_users?"],
        ),
        (("[programs]", "xyzzy = 1\n[programs]"), ["xyzzy: there is no such key; known are: allow_groups, "]),
        (
            ("[programs]", 'max_children = "1000"\n[programs]'),
            ['max_children has to be a whole number, 0 or more, without quotes, not "1000": '],
        ),
        (("[programs]", "pam_service = 2020-01-01\n[programs]"), ["pam_service has to be a string in quotes"]),
        (
            ("[programs]", 'cgroup = "relative"\n[programs]'),
            ['cgroup has to be an absolute path in quotes, not "relative"'],
        ),
        (('broker_user = "nobody"', ""), ["broker_user", "missing"]),
        (('"nobody"', '"no-such-account"'), ["broker_user", "no-such-account"]),
        (('"nobody"', '"roo"'), ["broker_user: there is no account roo"]),
        (('"nobody"', "0"), ["broker_user has to be a string in quotes, not 0: account"]),
        (('["/bin/true"]', '"/bin/true"'), ["programs"]),
        (('["/bin/true"]', '["true"]'), ["programs", "absolute"]),
        (('["/bin/true"]', "[]"), ["programs"]),
        (('["/bin/true"]', '["/bin/true", 7]'), ["programs"]),
        (("[programs]", "max_children = -1\n[programs]"), ["max_children"]),
        (("[programs]", "max_children = true\n[programs]"), ["max_children"]),
        (("[programs]", "system_uids = 999\n[programs]"), ["system_uids has to be a list of pairs of uids"]),
        (("[programs]", "system_uids = [[0]]\n[programs]"), ["system_uids has to be a list of pairs of uids"]),
        (("[programs]", "system_uids = [[9, 0]]\n[programs]"), ["system_uids has to be a list of pairs of uids"]),
        (("[programs]", "rlimits = {core = [-2, 0]}\n[programs]"), ["rlimits has to be a table of pairs"]),
        (("[programs]", "rlimits = {core = [0, 9223372036854775808]}\n[programs]"), ["rlimits has to be"]),
        (("[programs]", "system_uids = [[-1, 999]]\n[programs]"), ["system_uids has to be a list of pairs of uids"]),
        (("[programs]", "system_uids = [[false, true]]\n[programs]"), ["system_uids has to be a list of pairs"]),
        (("[programs]", "min_uid = 9\nsystem_uids = []\n[programs]"), ["min_uid: there is no such key; known are: "]),
        (("[programs]", "stop_grace = -1\n[programs]"), ["stop_grace"]),
        (("[programs]", "no_new_privs = 1\n[programs]"), ["no_new_privs"]),
        (("[programs]", 'deny_users = "root"\n[programs]'), ["deny_users"]),
        (('["daemon"]', "[1]"), ["allow_groups"]),
        (("[programs]", 'environment = ["A=b"]\n[programs]'), ["environment"]),
        (("[programs]", "environment = {A = 1}\n[programs]"), ["environment"]),
        (("endpoint =", '"end point" ='), ["programs"]),
        (("[programs]", 'environment = {"A=B" = "x"}\n[programs]'), ["environment"]),
        (("[programs]", 'pam_service = "a\\u0000b"\n[programs]'), ["pam_service has to be a string in quotes"]),
        (("/spawner.sock", "/spawner.sock\\u0000"), ["socket has to be an absolute path"]),
        (("[programs]", "max_children = 1_000_000_000\n[programs]"), ["max_children"]),
        (("[programs]", "stop_grace = true\n[programs]"), ["stop_grace"]),
        (("[programs]", "stop_grace = 1_000_000_000\n[programs]"), ["stop_grace"]),
        (("[programs]", "rlimits = {core = [0]}\n[programs]"), ["rlimits"]),
        (("[programs]", "rlimits = {core = [0, -2]}\n[programs]"), ["rlimits"]),
        (("[programs]", 'limits = {"memory.max" = "8G"}\n[programs]'), ["limits and user_limits need a cgroup"]),
        (("[programs]", 'user_limits = {"memory.max" = "8G"}\n[programs]'), ["limits and user_limits need a cgroup"]),
        (("[programs]", "limits = {'memory.max' = 8}\n[programs]"), ["limits has to be a table of strings"]),
        (("[programs]", "limits = {'memory.max' = ' '}\n[programs]"), ["limits has to be a table of strings"]),
        (("[programs]", "limits = {memory.max = '8G'}\n[programs]"), ["limits has to be a table of strings"]),
        (("[programs]", "limits = {'memory.max/..' = '8G'}\n[programs]"), ["limits has to be a table of strings"]),
        (("[programs]", "user_limits = {'cgroup.freeze' = '1'}\n[programs]"), ["user_limits has to be a table"]),
        (("[programs]", "[programs"), ["policy.toml"]),
    ],
)
def test_a_bad_policy(tmp_path: Path, change: tuple[str, str], words: list[str]) -> None:
    done = check(tmp_path, GOOD.replace(*change), "--check")
    assert done.returncode == 78, done
    assert all(word in done.stderr for word in words), done.stderr


def test_nothing_is_made_for_a_bad_policy(tmp_path: Path) -> None:
    assert check(tmp_path, GOOD.replace("[programs]", "xyzzy = 1\n[programs]")).returncode == 78
    assert not (tmp_path / "audit.log").exists()
    assert not (tmp_path / "spawner.sock").exists()


@pytest.mark.parametrize(
    ("least", "ranges"),
    [
        (0, "[[0, 0], [60000, 65535], [2147352576, 4294967295]]"),
        (500, "[[0, 499], [60000, 65535], [2147352576, 4294967295]]"),
        (1000, "[[0, 999], [60000, 65535], [2147352576, 4294967295]]"),
    ],
)
def test_a_policy_from_before_ranges_of_uids_is_taken_as_it_was_meant(tmp_path: Path, least: int, ranges: str) -> None:
    """Else a host that upgrades by itself has no endpoints from its next start on."""
    done = check(tmp_path, GOOD.replace("[programs]", f"min_uid = {least}\n[programs]"), "--check")
    assert done.returncode == 0
    [warning] = done.stderr.splitlines()
    assert warning.startswith("twinlock-spawner: warning: ")
    assert warning.endswith(f"in place of min_uid, write: system_uids = {ranges}")
    _, _, written = warning.partition("write: ")
    done = check(tmp_path, GOOD.replace("[programs]", f"{written}\n[programs]"), "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("least", ["-1", "true", '"1000"'])
def test_what_no_policy_could_say_is_not_taken_as_meant(tmp_path: Path, least: str) -> None:
    """A range up to -1 would keep out nobody but root."""
    done = check(tmp_path, GOOD.replace("[programs]", f"min_uid = {least}\n[programs]"), "--check")
    assert done.returncode == 78
    assert "min_uid: there is no such key; known are: " in done.stderr


def test_a_policy_that_lets_everybody_in_is_told_of(tmp_path: Path) -> None:
    done = check(tmp_path, GOOD.replace('"daemon"', ""), "--check")
    assert done.returncode == 0
    [warning] = done.stderr.splitlines()
    assert "allow_groups is empty" in warning


def test_a_broker_that_is_root_is_told_of(tmp_path: Path) -> None:
    """There is nothing left to separate."""
    done = check(tmp_path, GOOD.replace('"nobody"', '"root"'), "--check")
    assert done.returncode == 0
    [warning] = done.stderr.splitlines()
    assert "broker_user: a broker that is root " in warning


def test_a_shell_as_a_program_is_told_of(tmp_path: Path) -> None:
    """What it runs isn't looked at."""
    done = check(tmp_path, GOOD + "line = ['/bin/sh', '-c', 'exec true']\n", "--check")
    assert done.returncode == 0
    [warning] = done.stderr.splitlines()
    assert "programs: 'line' is a shell; " in warning


VERIFIED = GOOD.replace("[programs]", "verified_only = true\n[programs]")
SIGNED = ["/bin/true", "--verified", "{folder}/verified.toml"]


def programs(folder: Path, **commands: list[str]) -> str:
    """A policy with `verified_only` and these programs, beside the file of one that is good."""
    (folder / "verified.toml").touch(0o644)
    lines = [f"{name} = {json.dumps(command)}" for name, command in commands.items()]
    return VERIFIED.replace('endpoint = ["/bin/true"]', "\n".join(lines))


def test_programs_that_run_signed_work_only(tmp_path: Path) -> None:
    done = check(tmp_path, programs(tmp_path, one=SIGNED, other=SIGNED), "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "command",
    [
        SIGNED[:1],
        SIGNED[:2],
        [SIGNED[0], "--agent", SIGNED[2]],
        [*SIGNED, "more"],
        [SIGNED[0], "--agent", *SIGNED],
        [SIGNED[0], SIGNED[2], "--verified"],
        [SIGNED[0], f"--verified={SIGNED[2]}"],
        [*SIGNED[:2], "verified.toml"],
    ],
)
def test_no_program_that_runs_unsigned_work(tmp_path: Path, command: list[str]) -> None:
    """Not even beside one that doesn't: the broker chooses among them."""
    done = check(tmp_path, programs(tmp_path, one=SIGNED, other=command), "--check")
    assert done.returncode == 78
    said = "policy.toml: programs: other may run work that nobody has signed, which verified_only rules out; "
    assert said in done.stderr
    assert 'remove it, or write other = ["/usr/bin/twinlock-endpoint", "--verified", ' in done.stderr


def test_what_is_verified_is_roots_word(tmp_path: Path) -> None:
    """The file of `--verified` has to be there, and nobody else may change it."""
    text = programs(tmp_path, one=SIGNED)
    path = tmp_path / "verified.toml"
    path.chmod(0o666)
    done = check(tmp_path, text, "--check")
    assert (done.returncode, f"{path} is writable by others than root" in done.stderr) == (78, True)
    path.unlink()
    done = check(tmp_path, text, "--check")
    assert (done.returncode, f"No such file or directory: '{path}'" in done.stderr) == (78, True)


NAMES = """\
deny_users = ["root", "munge", "no-such-account"]
deny_groups = ["sudo", "microk8s", "no-such-group-either"]
allow_groups = ["no-such-group", "daemon"]
allowed_shells = ["/bin/sh", "/no/such/shell"]
pam_service = "no-such-service"
[rlimits]
core = [0, 0]
no_such_limit = [0, 0]
"""


def test_names_that_the_host_doesnt_know_are_told_of(tmp_path: Path) -> None:
    done = check(tmp_path, GOOD.replace('allow_groups = ["daemon"]\n', NAMES), "--check")
    assert done.returncode == 0
    start = f"twinlock-spawner: warning: {tmp_path}/policy.toml: "
    told = [line.removeprefix(start) for line in done.stderr.splitlines()]
    assert [text.partition(":")[0] for text in told] == [
        "deny_users",
        "deny_groups",
        "allow_groups",
        "allowed_shells",
        "rlimits",
        "pam_service",
    ]
    names = [
        "'no-such-account'",
        "'no-such-group-either'",
        "'no-such-group'",
        "'/no/such/shell'",
        "'no_such_limit'",
        "no-such-service",
    ]
    assert all(name in text for name, text in zip(names, told, strict=True))


def test_a_policy_that_others_can_write_to(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").touch()
    (tmp_path / "policy.toml").chmod(0o664)
    done = check(tmp_path, GOOD)
    assert done.returncode == 78
    assert "writable" in done.stderr


def test_a_folder_that_others_can_write_to(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    done = check(tmp_path, GOOD)
    assert done.returncode == 78
    assert "writable" in done.stderr


def test_a_policy_that_is_not_there(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "twinlock_spawner", "--policy", str(tmp_path / "none.toml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 78
    assert "none.toml" in done.stderr


def test_nobodys_module_is_loaded_while_the_policy_is_read(tmp_path: Path) -> None:
    """Neither from the environment nor from the working directory."""
    for name in ("argparse", "tomllib"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('this was loaded')\n")
    done = check(tmp_path, GOOD, "--check", cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")


def test_usage_errors_exit_with_100(tmp_path: Path) -> None:
    done = check(tmp_path, GOOD, "--chek")
    assert done.returncode == 100
    assert "usage" in done.stderr


def test_the_example_has_every_key() -> None:
    example = tomllib.loads((Path(__file__).parents[2] / "packaging/spawner.toml").read_text())
    assert example.keys() == set(Policy.__annotations__)
    own = {"broker_user", "programs", "environment"}
    assert {key: example[key] for key in example.keys() - own} == {
        key: getattr(Policy, key) for key in example.keys() - own
    }


def test_no_module_of_the_environment_reads_the_policy(start: Start, tmp_path: Path) -> None:
    (tmp_path / "tomllib.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\n")
    start(prefix=(*UNMEASURED, f"PYTHONPATH={tmp_path}"))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("line", [r'broker_user = "ro\u0000ot"', r'socket = "/x\u0000y"', r'deny_users = ["a\u0000b"]'])
def test_a_text_with_a_null_character(tmp_path: Path, line: str) -> None:
    """The system's calls would take it for its end."""
    key, _, _ = line.partition(" ")
    others = [other for other in GOOD.splitlines() if not other.startswith(key)]
    done = check(tmp_path, "\n".join([line, *others]), "--check")
    assert done.returncode == 78
    assert f"{key} has to be" in done.stderr
