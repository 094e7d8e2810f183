"""A Unix socket that has its mode, its group and somebody who listens from the moment that its name is there."""

import errno
import os
import socket
from pathlib import Path


def listening_socket(path: Path, mode: int, backlog: int, gid: int | None = None) -> socket.socket:
    """Return a stream socket that listens at `path`, in place of one that a killed process left there.

    `gid` is its group, if it isn't the process's own. Raise `OSError` if it can't be made.

    It is made under another name, `bind` being what makes the file and `listen` what lets anybody connect:
    who sees the file between the two is refused, and takes it for one that nobody serves.
    """
    if path.exists() and not path.is_socket():
        raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
    unfinished = path.with_suffix(".new")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        if unfinished.is_socket():
            unfinished.unlink()
        sock.bind(os.fspath(unfinished))
        if gid is not None:  # the broker's unit lets it call no chown
            os.chown(unfinished, -1, gid)
        unfinished.chmod(mode)
        sock.listen(backlog)
        unfinished.rename(path)
    except OSError:
        sock.close()
        raise
    return sock
