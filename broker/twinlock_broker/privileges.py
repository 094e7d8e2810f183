"""The broker's lack of privileges: it refuses to run with one, since what it can't do, nobody can make it do."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from twinlock_broker.errors import Fatal

_SETS = ("CapPrm", "CapEff", "CapAmb")


def refuse_privileges(uid: int, status: str, program: str = "broker", account: str = "twinlock") -> None:
    """Raise `Fatal` (77) for uid 0 or for any capability in `status`, the text of /proc/self/status (proc(5)).

    `program` is said to need none, and to run as the system user `account`.
    """
    if uid == 0:
        raise Fatal(
            os.EX_NOPERM,
            f"the {program} must not run as root: start it as the system user '{account}' (User= in its unit). "
            "Only twinlock-spawner runs as root",
        )
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    held = [name for name in _SETS if int(fields[name], 16)]
    if held:
        raise Fatal(
            os.EX_NOPERM,
            f"the {program} must not hold capabilities, but {', '.join(held)} is not empty: "
            "remove AmbientCapabilities= or the file capabilities of its interpreter",
        )


def refuse_own_privileges(program: str = "broker", account: str = "twinlock") -> None:
    """Do `refuse_privileges` for this process."""
    refuse_privileges(os.geteuid(), Path("/proc/self/status").read_text(), program, account)


@contextlib.contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """Act as the folder's owner during the block, if we are root. Raise `Fatal` (66) if there is no such folder.

    The owner may have put links there, which root mustn't follow; and files that are made there stay the owner's. The
    real ids change as well, by which the spawner knows who asks.
    """
    try:
        owner = folder.stat()
    except OSError as error:
        raise Fatal(
            os.EX_NOINPUT, f"{folder}: {error.strerror}; name the broker's state folder with --state"
        ) from error
    if os.geteuid() != 0 or owner.st_uid == 0:
        yield
        return
    groups = os.getgroups()
    os.setgroups([owner.st_gid])
    os.setresgid(owner.st_gid, owner.st_gid, 0)
    os.setresuid(owner.st_uid, owner.st_uid, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)
        os.setresgid(0, 0, 0)
        os.setgroups(groups)
