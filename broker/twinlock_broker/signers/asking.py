"""A question about an account that a process answers which runs as the account, as the account's endpoints do.

Root doesn't open anything in a home: a link there may lead anywhere, a pipe or a file system may never answer. So
that process is treated as the account's, which could attach to it (ptrace(2)): it gets no terminal, no variables, no
keys of this login, and neither its answer nor its end is waited for without a limit.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

from twinlock_broker import as_account, keyring, processes
from twinlock_broker.descriptors import readable
from twinlock_broker.errors import Fatal
from twinlock_broker.signers import answer

LIMIT = 60.0
"""Seconds for an answer. A command that prints signers may take 20."""

_MOST = 4 << 20
"""Bytes of an answer."""

_PIECE = 1 << 16
_END_LIMIT = 2.0
"""Seconds that a killed process gets to end; a file system that doesn't answer can hold it up for ever."""

_COMMAND = (sys.executable, "-I", "-m", "twinlock_broker.signers.look")


def ask(config: Path, account: str) -> dict[str, Any]:
    """Return the account's name, and what there is about its signers in the form of `answer.SHAPE`.

    Args:
        config: the administrator's file.
        account: the account's name.

    Raises:
        Fatal: 66, the file doesn't exist; 67, there is no such account, or it is root; 70, there is no answer; 75,
            there is none in time; 77, only root may ask about another account; 78, the file, or what it names, can't be
            used, or the account can't run Twinlock.
    """
    if not os.path.lexists(config):
        raise Fatal(os.EX_NOINPUT, f"{config}: no such file; name the site's verified.toml with --config")
    row = as_account.entry(account)
    if row.pw_uid == 0:
        raise Fatal(os.EX_NOUSER, f"{account}: nobody's work runs as root, so it has no signers; name another account")
    question = json.dumps({"config": str(config.absolute()), "account": row.pw_name})
    return {"account": row.pw_name, **answer.read(_run(question.encode(), as_account.identity(row)))}


def _run(question: bytes, identity: dict[str, Any]) -> bytes:
    """Return what the process prints. Raise `Fatal` (70, 75)."""
    keyring.leave()
    process = _start(identity)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        with contextlib.suppress(BrokenPipeError), process.stdin:  # then there is no answer
            process.stdin.write(question)  # less than a pipe holds
        return _read(process.stdout, time.monotonic() + LIMIT)
    finally:
        _end(process)


def _start(identity: dict[str, Any]) -> subprocess.Popen[bytes]:
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    own: dict[str, Any] = {"env": {"LC_ALL": "C.UTF-8"}, "cwd": "/", "umask": 0o077, "start_new_session": True}
    try:
        return subprocess.Popen(_COMMAND, bufsize=0, **pipes, **own, **identity)
    except OSError as error:
        text = f"{sys.executable}: the account can't run it: {error.strerror}; nor could its endpoints, correct that"
        raise Fatal(os.EX_CONFIG, text) from error


def _read(stream: IO[bytes], deadline: float) -> bytes:
    """Return all that comes until its end. Raise `Fatal` (70, 75)."""
    found = b""
    while readable(stream, deadline):
        piece = stream.read(_PIECE)
        if not piece:
            return found
        found += piece
        if len(found) > _MOST:
            text = f"the answer has more than {_MOST} bytes; a process of the account has made it up"
            raise Fatal(os.EX_SOFTWARE, text)
    raise Fatal(
        os.EX_TEMPFAIL,
        f"there is no answer after {LIMIT:.0f} s: the account's home, or a command in `signers`, doesn't answer; "
        "try `ls` there as the account",
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    os.killpg(process.pid, signal.SIGKILL)  # before it is reaped: then the number may be another group's
    if processes.has_ended(process.pid, time.monotonic() + _END_LIMIT):
        process.wait()
