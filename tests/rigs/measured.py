"""What a process executes first whose coverage is measured: `measure` brings it into the interpreters of the prefix.

A spawner is many processes: it starts over as ``python -I``, forks, changes to users, closes file descriptors, executes
other programs. A child goes on with what its parent had measured; each process writes what it knows, into a file of its
own, just before it ends or becomes another program. What SIGKILL ends is lost.
"""

import _signal  # type: ignore[import-not-found]
import atexit
import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import coverage


def begin(folder: Path) -> None:
    """Measure this process and those that it forks; configuration and data are in `folder`."""
    measured = coverage.Coverage(
        data_file=folder / "data", data_suffix=True, config_file=str(folder / "pyproject.toml")
    )
    measured.start()
    atexit.register(measured.save)
    for name in ("_exit", "execv", "execve"):
        _save_before(measured, os, name, lambda *_: True)
    _load_site()
    _save_before(measured, os, "kill", lambda pid, _: pid == os.getpid())
    # A signal to itself. What is in `signal` calls this as well.
    _save_before(measured, _signal, "pthread_sigmask", lambda how, _: how == _signal.SIG_UNBLOCK)


def _load_site() -> None:
    """Let what is executed as ``python -S`` have site all the same: that is what brings us in."""
    execute = os.execv

    def execute_with_site(path: str, argv: list[str]) -> None:
        execute(path, ["-I" if word == "-IS" else word for word in argv])

    os.execv = execute_with_site  # type: ignore[assignment]


def _save_before(measured: coverage.Coverage, module: ModuleType, name: str, ends: Callable[..., bool]) -> None:
    """Make a function of the module save the data first, where its arguments show that it `ends` the process."""
    call = getattr(module, name)

    def save_and_call(*arguments: Any) -> Any:
        if ends(*arguments):
            with contextlib.suppress(Exception):  # the process has to end whatever becomes of the data
                measured.save()
        return call(*arguments)

    setattr(module, name, save_and_call)


begin(Path(os.environ["TWINLOCK_MEASURED"]))
