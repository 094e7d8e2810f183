"""What only root can change: the policy's file, its programs, and the folders in which the spawner makes something."""

import os
import stat

_LONGEST_FIRST_LINE = 256
"""Bytes of a script that the kernel looks at, execve(2)."""


def check_command(argv: list[str]) -> None:
    """Raise `OSError` unless only root can change the command's files: each word that is an absolute path.

    The first line of a script is a command as well: the interpreter, and what that gets.
    """
    for word in argv:
        if word.startswith("/"):
            check_trusted(word)
            check_command(_first_line(word))


def _first_line(path: str) -> list[str]:
    """Return the words after ``#!``; none where the file is no script."""
    if not os.path.isfile(path):
        return []
    with open(path, "rb") as file:
        line = file.readline(_LONGEST_FIRST_LINE)
    return os.fsdecode(line[2:]).split() if line.startswith(b"#!") else []


def check_trusted(path: str) -> None:
    """Raise `OSError` unless only root (or in same-user mode we) can change what `path` leads to, and that itself.

    A folder like /tmp is good enough on the way: it is sticky, so what is root's in it stays. It isn't at the end: what
    is still to be made there, others could make first.
    """
    _check_writers(_follow(path))


def _follow(path: str) -> str:
    """Return the real path, found as the kernel does: the folder, then the name in it, then what that links to.

    Raises `OSError` where others than root own one of these, or can put something else in its place.
    """
    folder, name = os.path.split(path)
    if folder != path:
        path = os.path.join(_follow(folder or os.getcwd()), name)
    place = os.path.normpath(path)  # its folder is no link, so that ".." is the one above
    status = os.lstat(place)
    if status.st_uid not in (0, os.geteuid()):
        raise OSError(f"{place} can be changed by its owner, uid {status.st_uid}; only root may own it")
    if stat.S_ISLNK(status.st_mode):
        return _follow(os.path.join(os.path.dirname(place), os.readlink(place)))
    is_sticky = status.st_mode & stat.S_ISVTX
    if not is_sticky:
        _check_writers(place)
    return place


def _check_writers(path: str) -> None:
    mode = stat.S_IMODE(os.lstat(path).st_mode)
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"{path} is writable by others than root: its mode is {mode:o}")
