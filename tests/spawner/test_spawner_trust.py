"""What the policy names has to be root's alone, wherever it leads: links, interpreters, arguments, folders."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

POLICY = """\
broker_user = "nobody"
socket = "{folder}/spawner.sock"
audit_log = "{folder}/audit.log"
allow_groups = ["daemon"]
[programs]
endpoint = {command}
"""
NOBODY = 65534


def refusal(folder: Path, *command: str | Path) -> str:
    """Why the spawner doesn't take this command; empty where it does."""
    write_policy(folder, *command)
    return check(folder, "policy.toml")


def write_policy(folder: Path, *command: str | Path) -> Path:
    """A policy with this command."""
    path = folder / "policy.toml"
    path.write_text(POLICY.format(folder=folder, command=[str(word) for word in command]))
    return path


def check(folder: Path, path: str) -> str:
    """Why the spawner doesn't take the policy at a path from the folder; empty where it does."""
    argv = [sys.executable, "-P", "-m", "twinlock_spawner", "--policy", path, "--check"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == (os.EX_CONFIG if done.stderr else 0)
    return done.stderr


def program(path: Path, text: str = "#!/bin/sh\n") -> Path:
    """A program that is root's alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def give_away(path: Path) -> Path:
    """It is somebody else's now."""
    os.chown(path, NOBODY, NOBODY)
    return path


def test_a_working_directory_that_is_gone_is_in_nobodys_way(tmp_path: Path) -> None:
    """As of a shell that has entered a container, or whose folder was removed meanwhile."""
    policy = write_policy(tmp_path, program(tmp_path / "endpoint"))
    gone = tmp_path / "gone"
    gone.mkdir()
    leave = ("sh", "-c", 'cd "$1" && rmdir "$1" && shift && exec "$@"', "sh", str(gone))
    argv = [*leave, sys.executable, "-P", "-m", "twinlock_spawner", "--policy", str(policy), "--check"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_links_lead_to_a_program(tmp_path: Path) -> None:
    """As packages and virtual environments have them; the kernel's way is gone, whatever the path looks like."""
    program(tmp_path / "versions/2/bin/endpoint")
    (tmp_path / "versions/2/bin/alias").symlink_to("../bin/./endpoint")
    (tmp_path / "current").symlink_to(tmp_path / "versions/2/")
    (tmp_path / "bin").symlink_to("current/bin")
    assert refusal(tmp_path, tmp_path / "bin/alias", "--fixed", "words/that are", tmp_path / "bin") == ""


def test_a_virtual_environment_may_have_the_program(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=300)
    endpoint = program(environment / "bin/endpoint", f"#!{environment}/bin/python -I\n")
    assert refusal(tmp_path, endpoint) == ""


def _relative_link_in_a_linked_folder(folder: Path) -> Path:
    """Taken as text, its way leads to a program of root's."""
    program(folder / "own/endpoint")
    give_away(program(folder / "deep/own/endpoint"))
    (folder / "deep/bin").mkdir()
    (folder / "deep/bin/endpoint").symlink_to("../own/endpoint")
    (folder / "bin").symlink_to("deep/bin")
    return folder / "bin/endpoint"


def _sticky_file(folder: Path) -> Path:
    path = program(folder / "endpoint")
    path.chmod(0o1777)
    return path


def _link_of_others(folder: Path) -> Path:
    program(folder / "endpoint")
    (folder / "link").symlink_to("endpoint")
    os.lchown(folder / "link", NOBODY, NOBODY)
    return folder / "link"


def _sticky_folder_of_others(folder: Path) -> Path:
    path = program(folder / "others/endpoint")
    give_away(path.parent).chmod(0o1755)
    return path


def _interpreter(folder: Path) -> Path:
    return program(folder / "endpoint", f"#! {give_away(program(folder / 'interpreter'))} -x\n")


def _interpreter_by_env(folder: Path) -> Path:
    return program(folder / "endpoint", f"#!/usr/bin/env {give_away(program(folder / 'interpreter'))}\n")


def _interpreter_of_an_interpreter(folder: Path) -> Path:
    middle = program(folder / "middle", f"#!{_interpreter(folder / 'in')}\n")
    return program(folder / "endpoint", f"#!{middle}\n")


@pytest.mark.cases(4)
@pytest.mark.parametrize(
    "make",
    [
        _relative_link_in_a_linked_folder,
        _sticky_file,
        _link_of_others,
        _sticky_folder_of_others,
        _interpreter,
        _interpreter_by_env,
        _interpreter_of_an_interpreter,
    ],
)
@pytest.mark.parametrize("before", [(), ("/bin/true", "--run")])
def test_what_others_can_change_is_no_program(
    tmp_path: Path, make: Callable[[Path], Path], before: tuple[str, ...]
) -> None:
    """Nor is it an argument of one."""
    said = refusal(tmp_path, *before, make(tmp_path))
    assert "only root may own it" in said or "writable by others than root" in said


def test_the_policy_that_is_read_is_the_one_that_is_looked_at(tmp_path: Path) -> None:
    """Taken as text, its way leads to another one."""
    write_policy(tmp_path, "/bin/true")
    (tmp_path / "deep/folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/folder")
    own = write_policy(tmp_path / "deep", "/bin/true")
    assert check(tmp_path, "link/../policy.toml") == ""
    give_away(own)
    assert "only root may own it" in check(tmp_path, "link/../policy.toml")


def test_nothing_is_made_in_a_folder_where_others_can_be_first(tmp_path: Path) -> None:
    """A policy may be there, since it exists."""
    tmp_path.chmod(0o1777)
    assert f"{tmp_path} is writable by others than root" in refusal(tmp_path, "/bin/true")


def test_a_circle_ends(tmp_path: Path) -> None:
    """The kernel follows forty links, and five interpreters."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "recursion" in refusal(tmp_path, tmp_path / "a")
    own = tmp_path / "own"
    assert "recursion" in refusal(tmp_path, program(own, f"#!{own}\n"))


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none" in refusal(tmp_path, "/bin/true", tmp_path / "none")
    assert "No such file" in refusal(tmp_path, tmp_path / "none")
    shutil.copy("/bin/true", tmp_path)
    assert refusal(tmp_path, tmp_path / "true") == ""
