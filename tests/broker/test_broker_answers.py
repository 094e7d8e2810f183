"""What comes over the admin socket and goes to root's terminal, whoever may be behind it."""

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from twinlock_broker.commands.ask import ask
from twinlock_broker.errors import Fatal

TWINLOCK = Path(sys.executable).with_name("twinlock")
UEP = "7b1f2f6e-0000-4000-8000-000000000001"
ROW: dict[str, Any] = {
    "id": UEP,
    "user": "ada",
    "state": "running",
    "mode": "verified",
    "signed": {"key": "SHA256:x", "delegation": "0"},
    "pid": 7,
    "seconds": 60,
    "restart_waits": False,
    "figures": {"outstanding_tasks": 3},
    "condition": "",
    "jobs": ["4711"],
    "options": '{"partition":"debug"}',
}
STATUS: dict[str, Any] = {
    "endpoint": "11111111-2222-4333-8444-555555555555",
    "name": "cluster",
    "started": 0,
    "spawner_connected": True,
    "drain": None,
    "blocked": {},
    "endpoints": [ROW],
}
NEW = ("jobs", "options")
"""What a broker of version 0.2 doesn't say of an endpoint."""
EVIL = "\x1b]0;owned\x07\x1b[2J\u202e\u009b31m\nroot  is fine\r"


@contextlib.contextmanager
def answering(path: Path, line: bytes) -> Iterator[None]:
    """Something listens at `path` and answers each request with `line`."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.fspath(path))
        listener.listen()
        thread = threading.Thread(target=_answer, args=(listener, line), daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(60)


def _answer(listener: socket.socket, line: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(line + b"\n")


def run(path: Path, line: bytes, *words: str) -> "subprocess.CompletedProcess[str]":
    """The command's outcome where `line` is what it hears."""
    with answering(path / "admin.sock", line):
        argv: list[str | Path] = [TWINLOCK, *words, "--socket", path / "admin.sock"]
        return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def without(values: dict[str, Any], name: str) -> dict[str, Any]:
    """The values but for one."""
    return {key: value for key, value in values.items() if key != name}


WRONG = [
    {},
    7,
    None,
    *(without(STATUS, name) for name in STATUS),
    *(STATUS | {"endpoints": [without(ROW, name)]} for name in ROW if name not in NEW),
    STATUS | {"started": "yesterday"},
    STATUS | {"started": 1e308},
    STATUS | {"endpoints": 7},
    STATUS | {"endpoints": [7]},
    STATUS | {"endpoints": [ROW | {"seconds": EVIL}]},
    STATUS | {"endpoints": [ROW | {"figures": {"outstanding_tasks": [EVIL]}}]},
    {"error": EVIL},
]


def refusal(path: Path, line: bytes) -> Fatal:
    """What `ask` raises where `line` is what it hears."""
    with answering(path, line), pytest.raises(Fatal) as refused:
        ask(path, {"request": "status"})
    return refused.value


@pytest.mark.parametrize("answer", WRONG)
def test_an_answer_of_another_shape_is_a_sentence(tmp_path: Path, answer: object) -> None:
    refused = refusal(tmp_path / "admin.sock", json.dumps(answer, ensure_ascii=False).encode())
    assert refused.status == os.EX_PROTOCOL
    assert re.search("admin.sock: not a broker's answer: .+; update broker and command together", str(refused))
    assert str(refused).isprintable()


NO_JSON = (b"\x1b[2J", b"\xff\xfe", b"[" * 100_000, b'{"started": NaN}', b'{"started": ' + b"9" * 5000 + b"}")


@pytest.mark.parametrize("line", NO_JSON, ids=range(len(NO_JSON)))
def test_what_is_no_json_is_a_sentence(tmp_path: Path, line: bytes) -> None:
    refused = refusal(tmp_path / "admin.sock", line)
    assert refused.status == os.EX_PROTOCOL
    assert "admin.sock: not a broker's answer: " in str(refused)
    assert str(refused).isprintable()


def test_a_sentence_is_all_that_a_wrong_answer_prints(tmp_path: Path) -> None:
    done = run(tmp_path, json.dumps({"error": EVIL}).encode(), "status")
    assert (done.returncode, done.stdout) == (os.EX_PROTOCOL, "")
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.removesuffix("\n").isprintable()


@pytest.mark.parametrize("words", [("stop", UEP), ("stop", "ffff"), ("status",), ("status", "--json")])
def test_nothing_in_an_answer_drives_the_terminal(tmp_path: Path, words: tuple[str, ...]) -> None:
    row = ROW | {"user": EVIL, "state": EVIL, "condition": EVIL, "figures": {EVIL: 1}}
    status = STATUS | {"name": EVIL, "endpoint": EVIL, "endpoints": [row, ROW | {"id": EVIL}], "stopped": True}
    done = run(tmp_path, json.dumps(status).encode(), *words)
    assert done.stdout + done.stderr
    assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))
    assert not any(line.startswith("root  is fine") for line in done.stdout.split("\n"))


def test_a_status_is_shown(tmp_path: Path) -> None:
    done = run(tmp_path, json.dumps(STATUS).encode(), "status")
    assert (done.returncode, done.stderr) == (os.EX_OK, "")
    heading, row = (line.split() for line in done.stdout.splitlines()[2:])
    shown = dict(zip(heading, row, strict=True))
    expected = {"USER": "ada", "ENDPOINT": UEP, "STATE": "running", "MODE": "verified", "PID": "7", "AGE": "0:01:00"}
    assert shown.items() >= (expected | {"QUEUE": "3", "RUN": "-", "WORKERS": "-", "JOBS": "4711"}).items()
