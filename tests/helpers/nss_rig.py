"""A name service of a site, for the lookups of one spawner only: one that hangs, has a helper, and knows aliases."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from proc_rig import PATIENCE, children

_SOURCE = Path(__file__).with_name("nss_twltest.c")


class NameService:
    """A name service for spawners, which can hang."""

    def __init__(self, folder: Path) -> None:
        if not (compiler := shutil.which("cc")):
            pytest.skip("needs cc")
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-o", folder / "libnss_twltest.so.2", _SOURCE],
            check=True,
            capture_output=True,
        )
        (folder / "nsswitch.conf").write_text("passwd: twltest files\ngroup: files\n")
        self._hanging = folder / "hanging"
        self._hanging.mkdir()
        mount = f'mount --bind {folder}/nsswitch.conf /etc/nsswitch.conf && exec "$@"'
        where = (f"LD_LIBRARY_PATH={folder}", f"TWL_NSS_FOLDER={self._hanging}")
        self.prefix = ("unshare", "--mount", "sh", "-c", mount, "sh", "env", *where)
        """The words before the command of a spawner that is to use it: mounts of its own, and where it is."""

    @contextlib.contextmanager
    def hangs(self, name: str) -> Iterator[None]:
        """As long as this lasts, whoever looks up the account waits."""
        path = self._hanging / name
        path.touch()
        try:
            yield
        finally:
            path.unlink()

    @contextlib.contextmanager
    def helps(self, name: str, cgroup: Path) -> Iterator[None]:
        """As long as this lasts, a lookup of the account leaves a helper in `cgroup`, with all descriptors."""
        path = self._hanging / f"{name}.helper"
        path.write_text(f"{cgroup}/cgroup.procs")
        try:
            yield
        finally:
            path.unlink()
            os.kill(int((self._hanging / f"{name}.pid").read_text()), signal.SIGKILL)

    @contextlib.contextmanager
    def deafens(self, name: str) -> Iterator[None]:
        """As long as this lasts, who has looked up the account isn't told any more when its children end."""
        path = self._hanging / f"{name}.deaf"
        path.touch()
        try:
            yield
        finally:
            path.unlink()

    def asked_by(self, spawner: int) -> int:
        """The process below the spawner, guards between them or not, that asks; which is awaited."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            below = [spawner]
            for pid in below:  # which grows meanwhile
                with contextlib.suppress(OSError):  # ended meanwhile
                    if pid != spawner and "libnss_twltest" in Path(f"/proc/{pid}/maps").read_text():
                        return pid
                    below += children(pid)
            time.sleep(0.01)
        raise TimeoutError("nobody asked the name service")
