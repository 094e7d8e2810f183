"""The endpoint's end of the zygote, which starts it, and starts processes through it.

A request is a datagram with two descriptors: the writing end of a pipe, and a file in memory with the program to run,
pickled. Through the pipe comes first the pid, or in its place why there is no process; then, when the process has
ended, its exit code; a line each. Without these lines the pipe's end says that the zygote has gone, and its children
with it.
"""

import gc
import os
import pickle
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn

from twinlock_endpoint.zygote import server
from twinlock_endpoint.zygote.program import Program

_LOST = 255
_END_S = 5.0


class ZygoteError(RuntimeError):
    """The zygote can't start a process."""


class Zygote:
    """A fork of the calling process, which must have no other thread yet. What is imported by now is shared with it."""

    def __init__(self, forget: Callable[[], None]) -> None:
        """Fork the zygote.

        `forget` is called in each process that the zygote starts, to undo what the calling process set up for itself.
        """
        if threading.active_count() > 1:
            raise ZygoteError("the process has threads already")
        self._environment = dict(os.environ)
        gc.collect()
        gc.freeze()  # else the collector would write into the pages of everything that lives, and so copy them
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            _serve(theirs, forget)
        theirs.close()

    def start(self, program: Program) -> "Child":
        """Fork a process that runs the program. Any thread may call it.

        Raise `ZygoteError` if the zygote has gone or can't start a process, and `OSError` if there is no descriptor
        left here.
        """
        reading, writing = os.pipe()
        try:
            self._request(program, writing)
        except BaseException:
            os.close(reading)
            raise
        finally:
            os.close(writing)
        return Child(reading)

    def _request(self, program: Program, report: int) -> None:
        memory = os.memfd_create("program", os.MFD_CLOEXEC)
        try:
            with os.fdopen(memory, "wb", closefd=False) as file:
                pickle.dump(self._with_later_variables(program), file)
            socket.send_fds(self._socket, [b"start"], [report, memory])
        except ConnectionError as error:
            raise ZygoteError(f"the endpoint's zygote has ended ({error.strerror})") from error
        finally:
            os.close(memory)

    def _with_later_variables(self, program: Program) -> Program:
        """Return the program with the variables that the calling process has set since the fork."""
        before = self._environment
        later = {name: value for name, value in os.environ.items() if before.get(name) != value}
        return replace(program, environment={**later, **program.environment})

    def close(self) -> None:
        """End the zygote and with it whatever it started that still runs."""
        self._socket.close()
        deadline = time.monotonic() + _END_S
        while os.waitpid(self._pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > deadline:
                os.kill(self._pid, signal.SIGKILL)
            time.sleep(0.005)


class Child:
    """A process that the zygote forked, with the methods of subprocess.Popen that are called of it."""

    def __init__(self, report: int) -> None:
        self._report = os.fdopen(report, "rb", buffering=0)
        self._lines = b""
        self._lock = threading.Lock()
        self.returncode: int | None = None
        """As subprocess.Popen has it: negative for a signal; None while nobody has seen the end."""
        self.pid = self._begun()

    def poll(self) -> int | None:
        """Return the exit code, negative for a signal; None while the process runs."""
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code. Raise `subprocess.TimeoutExpired` if the process still runs after `timeout` seconds."""
        code = self._ended(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Signal the process and all of its group, unless it has ended."""
        if self.poll() is None:
            os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        readable = select.poll()  # a new one, since two threads may wait at the same time
        readable.register(self._report, select.POLLIN)
        if self.returncode is None and readable.poll(None if timeout is None else timeout * 1000):
            with self._lock:
                if self.returncode is None:
                    code = self._line()
                    self.returncode = _LOST if code is None else int(code)
        return self.returncode

    def _begun(self) -> int:
        answer = self._line()
        if answer is not None and answer.isdigit():
            return int(answer)
        self._report.close()
        if answer is None:
            raise ZygoteError("the endpoint's zygote has ended, or can't open another file")
        why = answer.decode()
        raise ZygoteError(f"no process can be started ({why}); is a limit of processes or of open files reached?")

    def _line(self) -> bytes | None:
        while b"\n" not in self._lines:
            read = self._report.read(64)
            if not read:
                return None
            self._lines += read
        line, _, self._lines = self._lines.partition(b"\n")
        return line


def _serve(requests: socket.socket, forget: Callable[[], None]) -> NoReturn:
    try:
        server.serve(requests, forget)
    finally:
        os._exit(os.EX_SOFTWARE)
