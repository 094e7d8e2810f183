"""What a process executes first whose coverage is measured: `measure` brings it into the interpreters of the prefix.

A spawner is many processes: it starts over as ``python -I``, forks, changes to users, closes file descriptors, executes
other programs. A child goes on with what its parent had reached; each process writes what it knows, into a file of its
own, just before it ends or becomes another program. What SIGKILL ends is lost.

Importing coverage takes five times as long as starting the interpreter, and a test starts several. So what is reached
is noted here, in coverage's form, and given to coverage at the end. tests/test_measured.py holds one against the other.
"""

import _signal  # type: ignore[import-not-found]
import atexit
import contextlib
import marshal
import os
import sys
import time
from collections.abc import Callable
from opcode import opmap
from types import FrameType, ModuleType
from typing import Any

Pairs = set[tuple[int, int]]
"""Lines of a file that were executed one after the other. A block's begin and end are its first line, negative."""

_Trace = Callable[[FrameType, str, Any], Any]
_RESUME = opmap["RESUME"]
_CO_GENERATOR = 0x20  # see `inspect`, which takes long to import


def begin(folder: str, code: tuple[str, ...]) -> None:
    """Measure this process and those that it forks: what is `code`, folders as they stand in the names of files."""
    known: dict[str, Pairs | None] = {}

    def trace_call(frame: FrameType, _event: str, _argument: object) -> _Trace | None:
        name = frame.f_code.co_filename
        if name not in known:
            known[name] = set() if any(part in name for part in code) else None
        pairs = known[name]
        return None if pairs is None else _trace_block(frame, pairs)

    def save() -> None:
        path = f"{folder}/{os.getpid()}-{time.monotonic_ns()}"
        data = marshal.dumps({name: pairs for name, pairs in known.items() if pairs})
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        written = os.write(file, data)
        os.close(file)
        if written == len(data):  # a test may have limited the size of files
            os.rename(path, f"{path}.reached")  # so that none is read that SIGKILL left unfinished

    _load_site()
    _save_at_the_end(save)
    sys.settrace(trace_call)


def _trace_block(frame: FrameType, pairs: Pairs) -> _Trace:
    """Return what is to be called for each line of a function or module that begins, or of a generator that goes on."""
    begin = -frame.f_code.co_firstlineno
    generator = bool(frame.f_code.co_flags & _CO_GENERATOR)
    last = frame.f_lineno if generator and _has_begun(frame) else begin

    def trace(frame: FrameType, event: str, _argument: object) -> _Trace:
        nonlocal last
        if event == "line":
            pairs.add((last, frame.f_lineno))
            last = frame.f_lineno
        elif event == "return" and not (generator and _yields(frame)):
            pairs.add((last, begin))
        return trace

    return trace


def _has_begun(frame: FrameType) -> bool:
    return frame.f_code.co_code[frame.f_lasti + 1] != 0  # RESUME's argument


def _yields(frame: FrameType) -> bool:
    return _RESUME in (_operation(frame, 0), _operation(frame, 2))  # the former since Python 3.13


def _operation(frame: FrameType, ahead: int) -> int | None:
    """The operation that is at work, or one that stands so many bytes behind it."""
    place, code = frame.f_lasti + ahead, frame.f_code.co_code
    return code[place] if place < len(code) else None


def _load_site() -> None:
    """Let what is executed as ``python -S`` have site all the same: that is what brings us in."""
    execute = os.execv

    def execute_with_site(path: str, argv: list[str]) -> None:
        execute(path, ["-I" if word == "-IS" else word for word in argv])

    os.execv = execute_with_site  # type: ignore[assignment]


def _save_at_the_end(save: Callable[[], None]) -> None:
    atexit.register(save)
    for name in ("_exit", "execv", "execve"):
        _save_before(save, os, name, lambda *_: True)
    _save_before(save, os, "kill", lambda pid, _: pid == os.getpid())
    # A signal to itself. What is in `signal` calls this as well.
    _save_before(save, _signal, "pthread_sigmask", lambda how, _: how == _signal.SIG_UNBLOCK)


def _save_before(save: Callable[[], None], module: ModuleType, name: str, ends: Callable[..., bool]) -> None:
    """Make a function of the module save first, where its arguments show that it `ends` the process."""
    call = getattr(module, name)

    def save_and_call(*arguments: Any) -> Any:
        if ends(*arguments):
            with contextlib.suppress(Exception):  # the process has to end whatever becomes of the data
                save()
        return call(*arguments)

    setattr(module, name, save_and_call)
