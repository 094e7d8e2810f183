"""Why a file or folder of the endpoint can't be made: which path is in the way, whose it is, and the next step.

Homes may be missing, somebody else's, read-only, full, or on a server that is away.
"""

import errno
import os
import pwd
from contextlib import suppress
from pathlib import Path

_ASK = "Ask this system's administrator"


def explain(path: Path, error: OSError) -> str:
    """Return what kept `path` from being made, opened or read, and the next step, in a sentence each."""
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - without an exception where there is none
    failed = Path(error.filename) if isinstance(error.filename, str) else path
    if home in (failed, *failed.parents) and not os.path.lexists(home):
        return f"your home directory {home} doesn't exist. {_ASK} to make it."
    place = _nearest(failed)
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return f"{place} is in the way: it isn't a directory. Move it away."
    if error.errno == errno.EROFS:
        return f"the file system of {place} is read-only. {_ASK} to look at it."
    if error.errno == errno.EDQUOT:
        return f"your quota on the file system of {place} is used up. Remove files there, or ask for more."
    if error.errno == errno.ENOSPC:
        return f"the file system of {place} is full. Remove files there, or ask for more space."
    if error.errno in (errno.EACCES, errno.EPERM):
        return _forbidden(place)
    return f"{place}: {error.strerror}. {_ASK} to look at it."


def _nearest(path: Path) -> Path:
    """Return the path itself if something is there, else the lowest of the directories above it that is there."""
    for place in (path, *path.parents):
        with suppress(OSError):
            place.lstat()
            return place
    return path


def _forbidden(place: Path) -> str:
    status = place.lstat()
    user, owner = _name(os.geteuid()), _name(status.st_uid)
    mode = status.st_mode & 0o7777
    if owner != user:
        return f"{place} belongs to {owner} (mode {mode:04o}), and you are {user}. {_ASK} for access."
    if mode & 0o300 != 0o300:
        return f"{place} is yours, but has the mode {mode:04o}. Allow yourself to write there (chmod u+rwx)."
    return f"the system forbids it, though {place} is yours (mode {mode:04o}). {_ASK} to look at it."


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
