"""The site's environment variables for user endpoints, in force from a process's first instruction.

Much of what a variable says is read once, when a process starts: the loader reads LD_LIBRARY_PATH, libc TZ, the
interpreter PYTHONPATH and PYTHONHASHSEED. So an endpoint whose document has variables executes itself again with them,
under the same process id. The document that it then reads has none, so it does that only once, whatever they change.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from twinlock_common import document

from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.start import probe

_READ_LATER = ("GC_", "GLOBUS_COMPUTE_")
"""Beginnings of names that only endpoints and functions look at, after the start; each document has some of them."""


def enter(variables: Mapping[str, str], raw: bytes) -> None:
    """Execute this program again with the document's variables, unless none of them matters to a process's start.

    Args:
        variables: the document's.
        raw: the text of the document, a JSON object; its `environment` is left out the next time.

    Raises:
        ConfigError: the endpoint can't start with these variables.
    """
    now = _executed_with()
    new = {name: value for name, value in variables.items() if now.get(_encode(name)) != _encode(value)}
    if all(name.startswith(_READ_LATER) for name in new):
        return
    whole = added(new)
    ignoring = ["-E"] if sys.flags.ignore_environment else []
    probe.check([sys.executable, *ignoring], "import twinlock_endpoint.__main__", whole, new)
    argv = [sys.executable, *sys.orig_argv[1:]]
    execute("The endpoint", argv, whole, document.without(raw, ["environment"]))


def added(variables: Mapping[str, str]) -> dict[bytes, bytes]:
    """Return this process's environment with these variables in it.

    They are encoded in UTF-8, as in the site's file, whatever this process's locale is.
    """
    return {**os.environb, **{_encode(name): _encode(value) for name, value in variables.items()}}


def isolate() -> None:
    """Execute this program again as ``python -I``, unless it runs so: no PYTHON* variable and no user site counts."""
    if not sys.flags.isolated:
        os.execv(sys.executable, [sys.executable, "-I", *sys.orig_argv[1:]])  # noqa: S606


def _executed_with() -> dict[bytes, bytes]:
    """Return the environment with which this process began. Python itself may set LC_CTYPE then (PEP 538)."""
    pairs = [pair.partition(b"=") for pair in Path("/proc/self/environ").read_bytes().split(b"\0")]
    return {name: value for name, _, value in pairs}


def _encode(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def execute(what: str, argv: list[str], variables: Mapping[bytes, bytes], text: bytes) -> NoReturn:
    """Become another program, with `text` as its standard input and all else as it is.

    `what` names the program in the error.

    Raises:
        ConfigError: the program can't be executed.
    """
    memory = os.memfd_create("twinlock-document")
    with open(memory, "wb", closefd=False) as file:
        file.write(text)
    os.lseek(memory, 0, os.SEEK_SET)
    os.dup2(memory, sys.stdin.fileno())
    os.close(memory)
    try:
        os.execve(argv[0], argv, variables)  # noqa: S606
    except OSError as error:
        raise ConfigError(
            f"{what} can't be executed with the site's environment variables: {error.strerror}."
        ) from error
