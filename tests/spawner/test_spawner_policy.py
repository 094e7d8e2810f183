"""The policy file: a bad one is named with its key and reason, and nothing is opened."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from twinlock_spawner.policy import Policy

GOOD = """\
broker_user = "root"
socket = "{folder}/spawner.sock"
audit_log = "{folder}/audit.log"
[programs]
endpoint = ["/bin/true"]
"""


def check(folder: Path, text: str, *words: str) -> "subprocess.CompletedProcess[str]":
    path = folder / "policy.toml"
    path.write_text(text.replace("{folder}", str(folder)))
    argv = [sys.executable, "-m", "twinlock_spawner", "--policy", str(path), *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)


def test_a_good_policy(tmp_path: Path) -> None:
    done = check(tmp_path, GOOD, "--check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("broker_user", "brokr_user"), ["brokr_user", "no such key"]),
        (('broker_user = "root"', ""), ["broker_user", "missing"]),
        (('"root"', '"no-such-account"'), ["broker_user", "no-such-account"]),
        (('"root"', "0"), ["broker_user", "str"]),
        (('["/bin/true"]', '"/bin/true"'), ["programs"]),
        (('["/bin/true"]', '["true"]'), ["programs", "absolute"]),
        (('["/bin/true"]', "[]"), ["programs"]),
        (('["/bin/true"]', '["/bin/true", 7]'), ["programs"]),
        (("[programs]", "min_uid = -1\n[programs]"), ["min_uid"]),
        (("[programs]", "min_uid = true\n[programs]"), ["min_uid"]),
        (("[programs]", "stop_grace = -1\n[programs]"), ["stop_grace"]),
        (("[programs]", "no_new_privs = 1\n[programs]"), ["no_new_privs"]),
        (("[programs]", 'deny_users = "root"\n[programs]'), ["deny_users"]),
        (("[programs]", "allow_groups = [1]\n[programs]"), ["allow_groups"]),
        (("[programs]", 'environment = ["A=b"]\n[programs]'), ["environment"]),
        (("[programs]", "environment = {A = 1}\n[programs]"), ["environment"]),
        (("[programs]", "[programs"), ["policy.toml"]),
    ],
)
def test_a_bad_policy(tmp_path: Path, change: tuple[str, str], words: list[str]) -> None:
    done = check(tmp_path, GOOD.replace(*change))
    assert done.returncode == 78, done
    assert all(word in done.stderr for word in words), done.stderr
    assert not (tmp_path / "audit.log").exists()
    assert not (tmp_path / "spawner.sock").exists()


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
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 78
    assert "none.toml" in done.stderr


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
