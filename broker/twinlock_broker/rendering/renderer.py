"""Rendering in processes that can be killed: a template's loop over a user's number may never end."""

import contextlib
import json
import subprocess
import sys
import time
from collections import deque
from typing import Any

from twinlock_common.rendering import request_line, template
from twinlock_common.rendering.configuration import Request
from twinlock_common.rendering.errors import RenderingError

from twinlock_broker.descriptors import readable
from twinlock_broker.errors import CommandError

_COMMAND = (sys.executable, "-I", "-m", "twinlock_common.rendering.worker")
_START_SECONDS = 4.0
_MAX_ANSWER = 1 << 20


class Renderer:
    """The processes that render. Idle ones are kept for the next call; there are as many as calls at the same time."""

    def __init__(self) -> None:
        self._idle: deque[subprocess.Popen[bytes]] = deque()

    def render(self, request: Request) -> str:
        """Return the checked YAML text. Raise `CommandError`. Blocks, for some seconds at most.

        Several threads may call it at a time.
        """
        line = _line(request)
        worker, limit = self._take()
        try:
            answer = _ask(worker, line, limit)
        except BaseException:
            _end(worker)
            raise
        self._idle.append(worker)
        if "error" in answer:
            raise CommandError(answer["error"], answer.get("detail", ""))
        return answer["config"]

    def close(self) -> None:
        """End the idle workers."""
        while self._idle:
            _end(self._idle.pop())

    def _take(self) -> tuple[subprocess.Popen[bytes], float]:
        """Return a worker, and the seconds that it has: a new one loads its modules first."""
        with contextlib.suppress(IndexError):
            while (worker := self._idle.pop()).poll() is not None:
                _end(worker)
            return worker, template.MAX_SECONDS
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "bufsize": 0}
        new = subprocess.Popen(_COMMAND, env={"LC_ALL": "C.UTF-8"}, cwd="/", start_new_session=True, **pipes)
        return new, template.MAX_SECONDS + _START_SECONDS


def _line(request: Request) -> bytes:
    try:
        return request_line.dump(request)
    except RenderingError as error:
        raise CommandError(error.text, error.detail) from error


def _ask(worker: subprocess.Popen[bytes], line: bytes, limit: float) -> dict[str, str]:
    assert worker.stdin is not None
    assert worker.stdout is not None
    try:
        for start in range(0, len(line), 1 << 16):
            worker.stdin.write(line[start : start + (1 << 16)])
    except BrokenPipeError as error:
        raise _died() from error
    answer, deadline = b"", time.monotonic() + limit
    while not answer.endswith(b"\n"):
        if not readable(worker.stdout, deadline):
            raise CommandError(f"Rendering the configuration took over {limit:.0f} seconds; shorten the options")
        piece = worker.stdout.read(1 << 16)
        if not piece or len(answer) > _MAX_ANSWER:
            raise _died()
        answer += piece
    found: dict[str, str] = json.loads(answer)
    return found


def _died() -> CommandError:
    return CommandError(
        "The endpoint's template can't be rendered with these options: it needs too much memory or time. "
        "Shorten user_endpoint_config"
    )


def _end(worker: subprocess.Popen[bytes]) -> None:
    worker.kill()
    with worker:  # closes the pipes and reaps
        pass
