"""A user endpoint's log as it grows, read by a process that runs as the endpoint's account.

Root opens nothing in a home: a link there may lead to another user's file, a pipe or a file system may never answer, a
file may have no end. That process is treated as the account's, which could attach to it (ptrace(2)): it gets no
terminal, no variables and no keys of this login, little memory and processor time, and nothing of it is waited for.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from twinlock_common.offload import in_thread

from twinlock_broker import as_account, keyring
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable

LINES = 200
"""Lines of the log that are there at the beginning."""

LONGEST = 1000
"""Characters of a line."""

_CHUNK = 1 << 16
_PAUSE = 0.2
"""Seconds between two reads of a chunk, so that who writes without end doesn't keep a processor busy."""

_MEMORY = 64 << 20
_SECONDS = 60
"""Bytes of memory, and seconds of processor time, of the process."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def path_of(user: str, manager: str, endpoint: str, user_dir: str) -> Path:
    """Return where the log of an endpoint is. Raise `Fatal` (67, 76). Blocks.

    Args:
        user: the account.
        manager: the manager endpoint's uuid.
        endpoint: the user endpoint's uuid.
        user_dir: its GLOBUS_COMPUTE_USER_DIR; empty if it has none.
    """
    if not (_UUID.fullmatch(manager) and _UUID.fullmatch(endpoint)):
        raise Fatal(os.EX_PROTOCOL, f"{manager!r} or {endpoint!r} isn't a uuid; update broker and command together")
    home = Path(as_account.entry(user).pw_dir)
    base = Path(user_dir) if user_dir.startswith("/") else home / ".globus_compute"
    return base / f"uep.{manager}.{endpoint}" / "endpoint.log"


def follow(user: str, path: Path) -> "subprocess.Popen[bytes]":
    """Start a process that prints the log's last lines, and then what is added. Raise `Fatal`. Blocks.

    Raises:
        Fatal: 67, there is no such account, or it is root; 71, no process can be started; 77, only root may read it.
    """
    row = as_account.entry(user)
    if row.pw_uid == 0:
        raise Fatal(os.EX_NOUSER, f"{user} is root, and nobody's endpoint runs as root; its files aren't opened")
    keyring.leave()
    limits = (f"--as={_MEMORY}", "--core=0", f"--cpu={_SECONDS}")
    argv = ("prlimit", *limits, "tail", "-n", str(LINES), "-F", "--", str(path))
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    try:
        return subprocess.Popen(
            argv,
            bufsize=0,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd="/",
            start_new_session=True,
            **as_account.identity(row),
        )
    except OSError as error:
        raise Fatal(os.EX_OSERR, f"{argv[0]}: can't be started for {user}: {error.strerror}") from error


class LogReader:
    """The log of an endpoint of the account `user`: `show` is called with each of its lines, made printable."""

    def __init__(self, user: str, show: Callable[[Sequence[str]], None]) -> None:
        self._user = user
        self._show = show
        self._process: subprocess.Popen[bytes] | None = None
        self._rest = b""
        self._closed = False

    async def open(self, manager: str, endpoint: str, user_dir: str) -> Path:
        """Begin to read, and return the log's path; the arguments are those of `path_of`. Raise `Fatal`."""
        path = await in_thread(lambda: path_of(self._user, manager, endpoint, user_dir))
        self._process = await in_thread(lambda: follow(self._user, path))
        if self._closed:
            self.close()
        else:
            os.set_blocking(self._stream.fileno(), False)
            self._listen()
        return path

    def close(self) -> None:
        """Read no more. The process is killed; its end, for which a file system may keep it waiting, isn't awaited."""
        self._closed = True
        process, self._process = self._process, None
        if process is None or process.stdout is None:
            return
        asyncio.get_running_loop().remove_reader(process.stdout)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        in_thread(process.wait)

    @property
    def _stream(self) -> IO[bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        return self._process.stdout

    def _listen(self) -> None:
        if self._process is not None:
            asyncio.get_running_loop().add_reader(self._stream, self._readable)

    def _readable(self) -> None:
        asyncio.get_running_loop().remove_reader(self._stream)
        data = self._stream.read(_CHUNK)
        if data:
            *whole, rest = (self._rest + data).split(b"\n")
            self._rest = rest[-4 * LONGEST :]
            self._show([printable(line.decode("utf-8", "replace"), LONGEST) for line in whole])
            asyncio.get_running_loop().call_later(_PAUSE, self._listen)
        elif data is None:  # there was nothing after all
            self._listen()
        else:
            self._show([f"nobody reads the log any more: {self._user} may have ended the process that does"])
