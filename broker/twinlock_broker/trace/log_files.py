"""The lines of logs, of any size: files with those that were rotated, standard input, and the journal."""

import gzip
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

LONGEST = 1 << 17
"""Bytes of a line; what is longer is no line of ours, and is read as several."""

JOURNAL_SECONDS = 300.0
"""Seconds that journalctl may take."""

_UNITS = ("--unit=twinlock-broker", "--unit=twinlock-broker@*")
_ROTATED = re.compile(r"\.[0-9]{1,4}(\.gz)?")

Lines = Callable[[], Iterator[bytes]]
"""A function that yields a log's lines from its beginning, each time that it is called. It raises `OSError`."""


def of_file(path: Path, since: float) -> Lines:
    """Return the lines of a log and of those that it was rotated to, but for files that end before `since`."""

    def read() -> Iterator[bytes]:
        for each in (*_rotated(path), path):
            if each.stat().st_mtime >= since:
                with _opened(each) as file:
                    yield from _lines(file)

    return read


def of_stdin() -> Lines:
    """Return the lines of standard input, which is kept in a temporary file without a name. Raise `OSError`."""
    kept = cast(BinaryIO, tempfile.TemporaryFile())  # noqa: SIM115 - it lives as long as the function that is returned
    for line in _lines(sys.stdin.buffer):
        kept.write(line)

    def read() -> Iterator[bytes]:
        kept.seek(0)
        return _lines(kept)

    return read


def of_journal(since: float) -> Lines:
    """Return the lines of the brokers in the journal."""
    argv = ("journalctl", *_UNITS, "--output=cat", "--no-pager", "--quiet", f"--since=@{int(since)}")

    def read() -> Iterator[bytes]:
        with subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=_environment()
        ) as process:
            stop = threading.Timer(JOURNAL_SECONDS, process.kill)
            stop.start()
            try:
                yield from _lines(cast(BinaryIO, process.stdout))
                _check(process)
            finally:
                stop.cancel()
                process.kill()

    return read


def _check(process: "subprocess.Popen[bytes]") -> None:
    """Raise `OSError` if journalctl has failed, with the last that it says."""
    assert process.stderr is not None
    said = process.stderr.read(LONGEST).decode("utf-8", "replace").strip()
    code = process.wait()
    if code:
        words = said.rpartition("\n")[2] or f"it ended with {code}; it may take {JOURNAL_SECONDS:.0f} s"
        raise OSError(0, words)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _rotated(path: Path) -> list[Path]:
    """Return the files that logrotate has moved aside."""
    found = [each for each in path.parent.glob(f"{path.name}.*") if _ROTATED.fullmatch(each.name[len(path.name) :])]
    return sorted(found, key=lambda each: each.stat().st_mtime)


def _opened(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _lines(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.readline(LONGEST), b"")
