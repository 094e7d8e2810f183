"""What nobody but root, or nobody but root and an account, can change: files with all that leads to them."""

import os
import stat
from collections.abc import Collection, Sequence
from pathlib import Path

from twinlock_signed.errors import ConfigError

ROOT = (0,)

_LONGEST_FIRST_LINE = 256
"""Bytes of a script that the kernel looks at, execve(2)."""


def check_command(argv: Sequence[str]) -> None:
    """Raise `ConfigError` unless only root can change the command's files: each word that is an absolute path.

    The first line of a script is a command as well: the interpreter, and what that gets. What isn't there is refused.
    """
    for word in argv:
        if word.startswith("/"):
            check_trusted(word)
            check_command(_first_line(word))


def check_trusted(path: str, owners: Collection[int] = ROOT) -> None:
    """Raise `ConfigError` unless only these owners can change what `path` leads to, and that itself.

    A folder like /tmp is good enough on the way: it is sticky, so what is root's in it stays. It isn't at the end.

    Args:
        path: a file or folder.
        owners: uids.
    """
    try:
        _check_writers(_follow(path, owners))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; correct the path, or make the file") from error
    except RecursionError:
        raise ConfigError(f"{path}: its links lead in a circle; correct them") from None


def check_strict_modes(path: Path, home: Path, uid: int) -> None:
    """Raise `ConfigError` unless only root and an account can change `path`, as sshd's StrictModes looks at it.

    Raise `OSError` if it isn't there.

    Args:
        path: a file or folder. Of its real path each folder is looked at, up to the home or ``/``.
        home: the account's home.
        uid: the account's.
    """
    real, top = path.resolve(strict=True), home.resolve()
    for place in (real, *real.parents):
        status = place.stat()
        if status.st_uid not in (0, uid):
            raise ConfigError(f"{place}: its owner, uid {status.st_uid}, can change it; use `chown`, or another place")
        _check_writers(str(place))
        if place == top:
            return


def _first_line(path: str) -> list[str]:
    """Return the words after ``#!``; none where the file is no script."""
    if not Path(path).is_file():
        return []
    with Path(path).open("rb") as file:
        line = file.readline(_LONGEST_FIRST_LINE)
    return os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []


def _follow(path: str, owners: Collection[int]) -> str:
    """Return the real path, found as the kernel does: the folder, then the name in it, then what that links to."""
    folder, name = os.path.split(path)
    if folder != path:
        path = os.path.join(_follow(folder or str(Path.cwd()), owners), name)  # noqa: PTH118 - a Path would drop a ".."
    place = os.path.normpath(path)  # its folder is no link, so that ".." is the one above
    status = os.lstat(place)
    if status.st_uid not in owners:
        raise ConfigError(f"{place}: its owner, uid {status.st_uid}, can change it; use `chown`, or another place")
    if stat.S_ISLNK(status.st_mode):
        return _follow(os.path.join(os.path.dirname(place), os.readlink(place)), owners)  # noqa: PTH115, PTH118, PTH120
    if not status.st_mode & stat.S_ISVTX:
        _check_writers(place)
    return place


def _check_writers(place: str) -> None:
    mode = stat.S_IMODE(os.lstat(place).st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ConfigError(f"{place}: its group or others can change it (mode {mode:o}); use `chmod go-w {place}`")
