"""Small files of the user's own: lines of text that nobody else can read."""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path


def config(name: str) -> Path:
    """Return the place of a file that the user should keep."""
    return Path.home() / ".config" / "twinlock-client" / name


def state(name: str) -> Path:
    """Return the place of a file that is of use for some days."""
    return Path.home() / ".local" / "state" / "twinlock-client" / name


def read(path: Path) -> list[str]:
    """Return the lines of a file; none if it isn't there. Raise `OSError` if it can't be read."""
    try:
        return path.read_bytes().decode("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return []


def append(path: Path, lines: list[str]) -> None:
    """Add lines to a file, which is made if it isn't there. Raise `OSError` if they can't be written."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_text(lines))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from changing a file meanwhile, if they lock it too. Raise `OSError` if that can't be."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.lock")  # since `replace` puts another file in the place of the first
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def replace(path: Path, lines: list[str]) -> None:
    """Write a file anew; whoever reads it gets the old lines or the new ones. Raise `OSError` if that fails."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(_text(lines))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            draft.unlink()
        raise


def _text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()
