"""Questions to the endpoint's own loader about rendered configurations: ``twinlock-endpoint --check``.

It is another program, in a Python environment of its own, so it runs as a process: with a time limit, without the
caller's variables, and for root as the account `nobody`, since users' accounts have to be able to run it.
"""

import json
import os
import pwd
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from twinlock_broker import processes

LIMIT = 60.0
"""Seconds for all configurations."""

_USAGE = 100
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
_SHOWN = 2000


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer about one configuration; both texts are empty if it is good."""

    wrong: str = ""
    """What is wrong with it."""
    unknown: str = ""
    """Why it isn't known whether anything is."""


def ask(argv: Sequence[str], configs: Sequence[str], environment: Mapping[str, str], *, audited: bool) -> list[Answer]:
    """Return an answer for each of the rendered configurations `configs`.

    Args:
        argv: the endpoint's program with its fixed arguments.
        configs: texts in YAML.
        environment: the site's variables, which user endpoints start with.
        audited: it is a high assurance endpoint.
    """
    asked = json.dumps({"configs": list(configs), "environment": dict(environment), "audited": audited})
    try:
        printed, rest = _run([*argv, "--check"], asked.encode())
    except OSError as error:
        return [Answer(wrong=f"{argv[0]} can't be run by other accounts: {error.strerror}")] * len(configs)
    answers = [_read(line) for line in printed.decode(errors="replace").splitlines()]
    return [*answers, *[rest] * len(configs)][: len(configs)]


def _run(argv: list[str], data: bytes) -> tuple[bytes, Answer]:
    """Return what the program prints, and the answer for configurations that it says nothing about. Raise `OSError`."""
    account: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    with tempfile.TemporaryFile() as stdin, tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        stdin.write(data)
        stdin.seek(0)
        files: dict[str, Any] = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        with subprocess.Popen(argv, env=_ENVIRONMENT, cwd="/", start_new_session=True, **files, **account) as process:
            try:
                in_time = processes.has_ended(process.pid, time.monotonic() + LIMIT)
            finally:
                os.killpg(process.pid, signal.SIGKILL)  # before it is reaped: then the number may be another group's
        printed, said = _content(stdout), _content(stderr)
    if not in_time:
        return printed, Answer(unknown=f"{argv[0]} took more than {LIMIT:.0f} s")
    return printed, _ended(argv[0], process.returncode, said.decode(errors="replace").strip())


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _ended(program: str, code: int, said: str) -> Answer:
    if code == _USAGE:
        return Answer(unknown=f"{program} is another version: it has no --check")
    return Answer(wrong=said[-_SHOWN:] or f"{program} ended with {code} and said nothing")


def _read(line: str) -> Answer:
    try:
        answer = json.loads(line)
        return Answer(str(answer.get("wrong", "")), str(answer.get("skipped", "")))
    except (ValueError, AttributeError):
        return Answer(unknown=f"{line[:100]!r} isn't an answer")
