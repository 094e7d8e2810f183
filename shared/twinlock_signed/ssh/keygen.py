"""The program ssh-keygen, as hosts run it: without an environment, and with files in memory that nobody can change."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

from twinlock_signed.errors import Refused

PROGRAM = "/usr/bin/ssh-keygen"

LIMIT = 10.0
"""Seconds that a call may take; it takes some milliseconds."""

_LONGEST_WORDS = 300


def run(arguments: Sequence[str], files: Mapping[str, bytes], stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run ssh-keygen and return how it ended.

    Args:
        arguments: of them those that are keys of `files` become paths of files in memory.
        files: by such names: what is in the files.
        stdin: what it reads from its standard input.

    Raises:
        Refused: it can't be run, or takes too long.
    """
    with ExitStack() as stack:
        opened = {name: stack.enter_context(_in_memory(data)) for name, data in files.items()}
        paths = {name: f"/proc/self/fd/{descriptor}" for name, descriptor in opened.items()}
        try:
            return subprocess.run(
                [PROGRAM, *(paths.get(word, word) for word in arguments)],
                stdin=stack.enter_context(_in_memory(stdin)),
                capture_output=True,
                env={},
                cwd="/",
                pass_fds=tuple(opened.values()),
                timeout=LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Refused(f"{PROGRAM} took more than {LIMIT:.0f} s; try again when the host is less busy") from None
        except OSError as error:
            raise Refused(f"{PROGRAM} can't be run: {error.strerror}; ask the administrator to install it") from error


def words(output: bytes) -> str:
    """Return what ssh-keygen said, as one short line of printable ASCII. Parts of it may come from a stranger."""
    text = " ".join(output.decode("ascii", "replace").split())
    return "".join(mark if " " <= mark <= "~" else "?" for mark in text)[:_LONGEST_WORDS]


@contextmanager
def _in_memory(data: bytes) -> Iterator[int]:
    """Yield the descriptor of a file that has no name, holds `data`, and is read from its beginning."""
    descriptor = os.memfd_create("twinlock")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        yield descriptor
    finally:
        os.close(descriptor)
