"""Tab completion for bash, as a shell asks for it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs_texts import ROOT
from parsers import subcommands
from twinlock_client.__main__ import parser as client_parser


def completions(line: str, program: str) -> set[str]:
    """What the shell is offered after this line."""
    asked = {"_ARGCOMPLETE": "1", "_ARGCOMPLETE_STDOUT_FILENAME": "/dev/stdout", "_ARGCOMPLETE_IFS": "\n"}
    environment = os.environ | asked | {"COMP_LINE": line, "COMP_POINT": str(len(line)), "COMP_TYPE": "9"}
    path = Path(sys.executable).with_name(program)
    done = subprocess.run([path], env=environment, capture_output=True, text=True, timeout=180, check=True)
    return {word.strip() for word in done.stdout.split("\n")}


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("twinlock-service user ", {"add", "list", "token", "revoke", "remove"}),
        ("twinlock-service --amqp-m", {"--amqp-management"}),
        ("twinlock-service user token --us", {"--users"}),
    ],
)
def test_commands_and_options_are_completed(line: str, offered: set[str]) -> None:
    assert offered <= completions(line, "twinlock-service")


def test_users_are_completed(tmp_path: Path) -> None:
    file = tmp_path / "users.yaml"
    file.touch(mode=0o600)
    file.write_text("users: {ada@site.example: {id: 7b1f2f6e-0000-4000-8000-000000000001}}")
    assert "ada@site.example" in completions(f"twinlock-service user revoke --users {file} a", "twinlock-service")


def test_it_is_installed_for_the_programs_that_have_it(tmp_path: Path) -> None:
    (tmp_path / "bin").symlink_to(Path(sys.executable).parent)
    subprocess.run([ROOT / "packaging/completion", tmp_path], check=True, timeout=180)
    folder = tmp_path / "share/bash-completion/completions"
    assert {path.name for path in folder.iterdir()} == {"twinlock", "twinlock-service"}
    for path in folder.iterdir():
        assert path.name in path.read_text()


ASK_THE_CLIENTS = """
source "$0"
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_twinlock_client "$1" "${@: -1}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def offered(*line: str) -> set[str]:
    """What bash offers for the last word of a line, beside files."""
    argv: list[str | Path] = ["bash", "-c", ASK_THE_CLIENTS, ROOT / "packaging/bash-completion/twinlock-client"]
    done = subprocess.run([*argv, *line], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def options(usage: str) -> set[str]:
    """The options in a usage line, which abbreviates that for help."""
    return {*re.findall("--[a-z]+", usage), "--help"}


def test_the_clients_commands_and_options_are_completed() -> None:
    """It starts nothing for that: loading Python and the SDK would take a second."""
    parser = client_parser()
    commands = subcommands(parser)
    assert offered("twinlock-client", "") == {*commands, *options(parser.format_usage())}
    assert offered("twinlock-client", "re") == {"revoke"}
    for name, made in commands.items():
        assert offered("twinlock-client", name, "-") == options(made.format_usage())
        assert offered("twinlock-client", name, "--key", "") == set(), "files"
