"""The zygote itself: forks a process for each request, tells how it ended, and ends with the endpoint.

It has one thread and loads nothing, so that a fork of it is as good as a fresh process that has everything loaded.
"""

import errno
import os
import pickle
import selectors
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from setproctitle import getproctitle, setproctitle

from twinlock_endpoint.zygote import detach
from twinlock_endpoint.zygote.program import Program


@dataclass(frozen=True, slots=True)
class _Child:
    pid: int
    pidfd: int
    report: int


def serve(requests: socket.socket, forget: Callable[[], None]) -> NoReturn:
    """Serve until the endpoint has closed its end, by intention or by dying; then end what still runs."""
    os.setpgid(0, 0)  # a signal for the endpoint's group is for the endpoint to carry out
    detach.close_all_but(requests.fileno())
    setproctitle(f"{getproctitle()}: zygote")
    waiting = selectors.DefaultSelector()
    waiting.register(requests, selectors.EVENT_READ)
    children: dict[int, _Child] = {}
    while True:
        for key, _ in waiting.select():
            if key.fileobj is not requests:
                waiting.unregister(key.fileobj)
                _bury(children.pop(key.fd))
                continue
            message, descriptors, _, _ = socket.recv_fds(requests, 16, 2)
            if not message:
                _end(list(children.values()))
            if (child := _answer(descriptors, forget)) is not None:
                children[child.pidfd] = child
                waiting.register(child.pidfd, selectors.EVENT_READ)


def _answer(descriptors: list[int], forget: Callable[[], None]) -> _Child | None:
    """Fork what a request asks for, and tell its sender the pid; or tell why that fails, and return None.

    A limit that is reached is the failure of this request only: with this process all that it started would end.
    """
    if not descriptors:  # not even the pipe could be received; that it is closed has to be the answer
        return None
    report, *memory = descriptors
    try:
        if not memory:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        child = _fork(memory[0], report, forget)
    except OSError as error:
        _tell(report, error.strerror)
        os.close(report)
        return None
    finally:
        # Only after the fork, which takes a third descriptor: so at least one is left to receive the next report with.
        for descriptor in memory:
            os.close(descriptor)
    _tell(report, child.pid)
    return child


def _fork(memory: int, report: int, forget: Callable[[], None]) -> _Child:
    """Fork a process that runs the program in `memory`. Raise `OSError` if no process or no descriptor is left."""
    with os.fdopen(memory, "rb", closefd=False) as file:
        file.seek(0)
        program: Program = pickle.load(file)  # noqa: S301 - from the process that this one is a fork of
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        detach.run(program, zygote, forget)
    with suppress(OSError):
        os.setpgid(pid, pid)  # the child does it as well; whoever is told the pid may signal the group
    try:
        return _Child(pid, os.pidfd_open(pid), report)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _tell(report: int, what: object) -> None:
    with suppress(BrokenPipeError):  # nobody wants to know
        os.write(report, f"{what}\n".encode())


def _bury(child: _Child) -> None:
    _, status = os.waitpid(child.pid, 0)
    _tell(child.report, os.waitstatus_to_exitcode(status))
    os.close(child.report)
    os.close(child.pidfd)


def _end(children: list[_Child]) -> NoReturn:
    for child in children:
        with suppress(OSError):
            os.killpg(child.pid, signal.SIGKILL)
    for child in children:
        os.waitpid(child.pid, 0)
    os._exit(os.EX_OK)
