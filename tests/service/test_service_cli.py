"""The command: its help, its errors, its exit codes."""

import os
import socket
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import psutil
import pytest
from service_rig import free_port, users_file
from twinlock_service.errors import StartError
from twinlock_service.rabbitmq import node_ports
from twinlock_service.rabbitmq.port_forwarding import hosted_ports

USAGE = 100


def run(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs the command to its end."""
    argv = [sys.executable, "-m", "twinlock_service", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=180, env={**os.environ, **environment})


def test_help_says_how_it_is_used() -> None:
    shown = run("--help")
    assert shown.returncode == 0
    for word in ("--state", "--users", "--amqp", "twinlock-service user", "chmod 600", "Exit codes"):
        assert word in shown.stdout


@pytest.mark.cases(3)
@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["token"],
        ["--state", "s"],
        ["--state", "s", "--users", "u", "--port", "0"],
        ["--state", "s", "--users", "u", "--port", "http"],
        ["--state", "s", "--users", "u", "--amqp", "http://a:sesame@host"],
        ["--state", "s", "--users", "u", "--amqp", "amqp:///v"],
        ["--state", "s", "--users", "u", "--amqp", "amqp://a:sesame@host/v"],
        ["--state", "s", "--users", "u", "--amqp-management", "amqp://a:sesame@host"],
        ["--nonsense"],
    ],
)
def test_wrong_usage_exits_with_100(arguments: list[str]) -> None:
    shown = run(*arguments)
    assert shown.returncode == USAGE
    assert "--help" in shown.stderr
    assert "sesame" not in shown.stderr


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--port", "x"], "argument --port: x is not a TCP port"),
        (["--port", "9" * 5000], "is not a TCP port"),
        (["--amqp-ports", "443,x"], "argument --amqp-ports: x is not a TCP port"),
        (["--amqp-management", "http://host:15672"], "--amqp-management needs --amqp URL"),
        (["--amqp", "auto", "--amqp-management", "http://host:15672"], "--amqp-management needs --amqp URL"),
        (["--amqp", "amqp://host/v", "--amqp-ports", "443"], "--amqp-ports is for the private node"),
        (["--amqp", "amqp://host/v", "--amqp-ports", "none"], "--amqp-ports is for the private node"),
    ],
)
def test_options_that_are_wrong_or_would_have_no_effect_are_named(arguments: list[str], reason: str) -> None:
    shown = run("--state", "s", "--users", "u", *arguments)
    assert shown.returncode == USAGE
    assert reason in shown.stderr


def test_a_missing_users_file_is_named(tmp_path: Path) -> None:
    shown = run("--state", tmp_path / "state", "--users", tmp_path / "absent")
    assert shown.returncode == os.EX_NOINPUT
    assert str(tmp_path / "absent") in shown.stderr


def test_a_state_folder_that_can_not_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    shown = run("--state", tmp_path / "file" / "state", "--users", users_file(tmp_path / "users.yaml"))
    assert shown.returncode == os.EX_CANTCREAT
    assert str(tmp_path / "file" / "state") in shown.stderr


def test_a_rabbitmq_that_is_not_there_is_named_without_its_password(tmp_path: Path) -> None:
    amqp = ["--amqp", "amqp://127.0.0.1:1/v", "--amqp-management", "http://127.0.0.1:1"]
    users = users_file(tmp_path / "users.yaml", rabbitmq={"user": "admin", "password": "sesame"})
    shown = run("--state", tmp_path / "state", "--users", users, *amqp)
    assert shown.returncode == os.EX_UNAVAILABLE
    assert "127.0.0.1:1" in shown.stderr
    assert "sesame" not in shown.stderr


def test_a_rabbitmq_without_a_login_is_named(tmp_path: Path) -> None:
    users = users_file(tmp_path / "users.yaml")
    shown = run("--state", tmp_path / "state", "--users", users, "--amqp", "amqp://127.0.0.1:1/v")
    assert shown.returncode == os.EX_CONFIG
    assert "rabbitmq" in shown.stderr


def test_missing_programs_are_named(tmp_path: Path) -> None:
    users = users_file(tmp_path / "users.yaml")
    shown = run("--state", tmp_path / "state", "--users", users, PATH=str(tmp_path))
    assert shown.returncode == os.EX_UNAVAILABLE
    assert "apt-get install rabbitmq-server" in shown.stderr


async def test_services_that_start_at_the_same_time_have_ports_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their nodes listen on them only after a while."""
    monkeypatch.setattr(node_ports, "PORTS", [free_port() for _ in range(8)])
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        ports = [*node_ports.free_ports(4, first), *node_ports.free_ports(4, second)]
        assert sorted(ports) == sorted(node_ports.PORTS)
        await first.aclose()
        assert set(node_ports.free_ports(4, second)) == {*ports[:4]}, "they are free again"


async def test_too_few_free_ports_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no socket stays open for each port that another service has claimed."""
    monkeypatch.setattr(node_ports, "PORTS", [free_port() for _ in range(3)])
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        with pytest.raises(StartError, match=r"needs 4 TCP ports .*, and 3 are free; end programs that use them"):
            node_ports.free_ports(4, first)
        before = psutil.Process().num_fds()
        with pytest.raises(StartError, match="and 0 are free"):
            node_ports.free_ports(4, second)
        assert psutil.Process().num_fds() <= before


async def test_a_port_for_rabbitmq_that_was_asked_for_and_is_taken_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartError, match=f"127.0.0.1:{port}: Address already in use; choose other --amqp-ports"):
            async with hosted_ports([port], "127.0.0.1", 1):
                pass
