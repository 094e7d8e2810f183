"""The manual pages: formatted without a warning, and complete."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from docs_texts import ROOT
from parsers import all_parsers, subcommands
from twinlock_broker.commands.__main__ import COMMANDS
from twinlock_broker.config.keys import BROKER_KEYS, MANAGER_KEYS
from twinlock_broker.console.keys import CONSOLE_KEYS
from twinlock_client.__main__ import parser as client_parser
from twinlock_endpoint.config.keys import KEYS
from twinlock_spawner.policy import Policy

PROGRAMS = (
    "twinlock",
    "twinlock-broker",
    "twinlock-console",
    "twinlock-spawner",
    "twinlock-service",
    "twinlock-endpoint",
)
COMMAND_PAGES = [f"man8/twinlock-{name}.8" for name in subcommands(all_parsers()["twinlock"])]
PAGES = [
    *(f"man8/{name}.8" for name in PROGRAMS),
    *COMMAND_PAGES,
    "man5/twinlock-broker.yaml.5",
    "man5/twinlock-spawner.toml.5",
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that `make man` fills."""
    folder = tmp_path_factory.mktemp("man")
    subprocess.run([sys.executable, ROOT / "docs/tools/man.py", folder], check=True, timeout=180)
    return folder


@pytest.fixture(scope="module")
def client_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of users' own computers."""
    folder = tmp_path_factory.mktemp("client-man")
    argv: list[str | Path] = [sys.executable, ROOT / "docs/tools/client_man.py", folder]
    subprocess.run(argv, env=os.environ | {"PYTHONPATH": str(ROOT / "client")}, check=True, timeout=180)
    return folder / "man1/twinlock-client.1"


def words(page: Path) -> str:
    """The page as its reader sees it, on one line."""
    if shutil.which("groff") is None:
        pytest.skip("needs groff")
    argv: list[str | Path] = ["groff", "-man", "-Tascii", "-P-cbou", "-ww", page]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=180)
    assert done.stderr == ""
    return " ".join(done.stdout.split())


@pytest.mark.cases(4)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_formatted_without_a_warning(pages: Path, page: str) -> None:
    assert "NAME" in words(pages / page)


def test_every_command_has_its_part(pages: Path) -> None:
    text = words(pages / "man8/twinlock.8")
    for name in COMMANDS:
        assert f"twinlock {name} " in text
    assert text.count("Exit codes:") == len(COMMANDS)


@pytest.mark.parametrize("page", COMMAND_PAGES)
def test_a_commands_page_has_its_exit_codes(pages: Path, page: str) -> None:
    text = words(pages / page)
    assert all(part in text for part in ("SYNOPSIS", "DESCRIPTION", "EXIT STATUS 0 "))


def test_users_own_computers_have_a_page_and_hosts_do_not(pages: Path, client_page: Path) -> None:
    text = words(client_page)
    for name, made in subcommands(client_parser()).items():
        assert f"twinlock-client {name} " in text
        assert all(option in text for option in re.findall("--[a-z]+", made.format_usage()))
    assert all(part in text for part in ("SYNOPSIS", "EXIT STATUS 0 done", "enrolled", "SSH_AUTH_SOCK"))
    assert not list(pages.rglob("twinlock-client*"))


def test_each_page_is_in_a_package(pages: Path) -> None:
    lists = [path.read_text() for path in (ROOT / "packaging/debian").glob("*.manpages")]
    packaged = {line.removeprefix("man/") for text in lists for line in text.split()}
    assert {str(path.relative_to(pages)) for path in pages.rglob("*.[58]")} == packaged


def test_every_option_and_key_has_its_entry(pages: Path) -> None:
    for program in PROGRAMS[:-1]:
        done = subprocess.run(
            [Path(sys.executable).with_name(program), "--help"], capture_output=True, text=True, timeout=180
        )
        told = {word for line in done.stdout.splitlines() for word in line.split()[:1] if word.startswith("--")}
        text = words(pages / f"man8/{program}.8")
        assert [option for option in told if option.strip(",") not in text] == []
    broker = words(pages / "man5/twinlock-broker.yaml.5")
    assert [key.name for key in (*BROKER_KEYS, *MANAGER_KEYS) if key.name not in broker] == []
    console = words(pages / "man8/twinlock-console.8")
    assert [key.name for key in CONSOLE_KEYS if key.name not in console] == []
    policy = words(pages / "man5/twinlock-spawner.toml.5")
    assert [key for key in Policy.__annotations__ if key not in policy] == []
    endpoint = words(pages / "man8/twinlock-endpoint.8")
    assert [key for key in KEYS if key not in endpoint] == []
