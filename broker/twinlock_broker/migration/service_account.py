"""The account that the broker runs under: whose group may read the new files, and what it may read already."""

import os
import pwd
import tomllib
from dataclasses import dataclass
from pathlib import Path

from twinlock_broker.errors import Fatal

_ACCOUNT = "twinlock"
_HIDDEN = ("/home", "/root", "/run/user")
"""Folders that the broker's unit hides from it (ProtectHome=)."""


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """The broker's account. Without root it is ours, and files are made for ourselves alone."""

    name: str
    """Its name."""
    uid: int
    """Its user id."""
    gid: int
    """The id of its primary group."""
    groups: frozenset[int]
    """The ids of all its groups."""

    def make_folder(self, path: Path) -> None:
        """Make a folder that the account may read. Raise `OSError`."""
        path.mkdir(mode=0o700, parents=True)
        self._share(path, 0o750)

    def write(self, path: Path, content: bytes, *, secret: bool = False) -> None:
        """Write a new file that is root's. Raise `OSError`.

        The account's group can read it; with `secret` nobody else than root can.
        """
        path.touch(mode=0o600, exist_ok=False)
        path.write_bytes(content)
        if not secret:
            self._share(path, 0o640)

    def may_read(self, path: Path, wanted: int = 0o4) -> bool:
        """Return whether mode bits let the account read the file (`wanted` 1: execute it).

        Those of the folders above it count too.
        """
        if os.geteuid() == 0 and any(path.is_relative_to(folder) for folder in _HIDDEN):
            return False
        try:
            return all(self._allowed(folder, 0o1) for folder in path.parents) and self._allowed(path, wanted)
        except OSError:
            return False

    def _allowed(self, path: Path, wanted: int) -> bool:
        status = path.stat()
        shift = 6 if status.st_uid == self.uid else 3 if status.st_gid in self.groups else 0
        return self.uid == 0 or bool(status.st_mode >> shift & wanted)

    def _share(self, path: Path, mode: int) -> None:
        if os.geteuid() == 0:
            os.chown(path, 0, self.gid)
            path.chmod(mode)


def find(policy: Path) -> ServiceAccount:
    """Return the broker's account: the policy's `broker_user`, else `twinlock`. Raise `Fatal` (67) if there is none."""
    if os.geteuid() != 0:
        return own()
    name = account_name(policy)
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        text = f"there is no account {name!r}; create it first: useradd --system --user-group --no-create-home {name}"
        raise Fatal(os.EX_NOUSER, text) from None


def account_name(policy: Path) -> str:
    """Return the name of the broker's account: the policy's `broker_user`, else `twinlock`."""
    try:
        return str(tomllib.loads(policy.read_text()).get("broker_user", _ACCOUNT))
    except (OSError, ValueError):
        return _ACCOUNT  # `twinlock check` says what is wrong with it


def own() -> ServiceAccount:
    """Return the account that we are: nobody else but root may read the files then."""
    return _account(pwd.getpwuid(os.geteuid()))


def _account(entry: pwd.struct_passwd) -> ServiceAccount:
    groups = frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return ServiceAccount(entry.pw_name, entry.pw_uid, entry.pw_gid, groups)
