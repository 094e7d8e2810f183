"""Throw-away Unix accounts, recognised by their GECOS field so that a run that was killed is tidied by the next."""

import os
import pwd
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from twinlock_testbed.daemons import DaemonError, run

_GECOS = "Twinlock testbed, throw-away"
BROKER = "twinlock"
_NOLOGIN = "/usr/sbin/nologin"
# Uids that no program gives out by itself: a container on this machine has accounts of its own with the usual ones,
# and its processes are to be seen here under those.
_SYSTEM_UIDS = ["--key=SYS_UID_MIN=500", "--key=SYS_UID_MAX=899"]
_UIDS = ["--key=UID_MIN=20000", "--key=UID_MAX=29999"]
_LOCKED = "try again later"
_PATIENCE = 300.0
"""Seconds that others may be at the accounts."""


@contextmanager
def throw_away(name: str, *, system: bool = False) -> Iterator[pwd.struct_passwd]:
    """Make the account `name`; remove it with its home and processes at the end. Raise `DaemonError` on failure.

    An account of that name that the testbed didn't make is never touched. Nobody can log in to it: users of a manager
    endpoint need no shell.
    """
    _remove_stale(name)
    kind = ["--system", "--no-create-home", *_SYSTEM_UIDS] if system else ["--create-home", *_UIDS]
    try:
        with _uninterrupted():
            change_accounts("useradd", *kind, "--user-group", "--shell", _NOLOGIN, "--comment", _GECOS, name)
        yield pwd.getpwnam(name)
    finally:
        _remove_stale(name)


def change_accounts(*argv: str) -> None:
    """Run useradd(8) or one of its kind, and wait while others are at the accounts. Raise `DaemonError` on failure.

    These programs wait for each other for 15 seconds, and then end without having changed anything.
    """
    end = time.monotonic() + _PATIENCE
    while True:
        try:
            run(*argv)
        except DaemonError as error:
            if _LOCKED not in str(error) or time.monotonic() > end:
                raise
        else:
            return


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Make signals wait: one that comes while a program is just being started would leave it to itself."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def broker_account() -> Iterator[str]:
    """Yield the system account ``twinlock``: the installed one, or one for this run."""
    try:
        installed = pwd.getpwnam(BROKER).pw_gecos != _GECOS
    except KeyError:
        installed = False
    if installed:
        yield BROKER
    else:
        with throw_away(BROKER, system=True):
            yield BROKER


def _remove(name: str) -> None:
    """End the account's processes and remove it with its home."""
    account = pwd.getpwnam(name)
    _end_processes(account.pw_uid)
    for path in Path(tempfile.gettempdir()).iterdir():  # Python's multiprocessing leaves folders when it is killed
        with suppress(FileNotFoundError):  # somebody else's, who has removed it meanwhile
            if path.lstat().st_uid == account.pw_uid:
                shutil.rmtree(path, ignore_errors=True)
    change_accounts("userdel", "--force", *([] if account.pw_uid < 1000 else ["--remove"]), name)


def _remove_stale(name: str) -> None:
    with suppress(KeyError):
        if pwd.getpwnam(name).pw_gecos != _GECOS:
            raise DaemonError(f"there is an account {name} that the testbed didn't make; it is left alone")
        _remove(name)


def processes_of(uid: int) -> list[int]:
    """Return the pids of the processes with that real uid, but not of zombies in which no other thread lives."""
    found = []
    for path in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            status = path.read_text()
            if f"\nUid:\t{uid}\t" in status and not ("\nState:\tZ" in status and "\nThreads:\t1\n" in status):
                found.append(int(path.parent.name))
    return found


def _end_processes(uid: int) -> None:
    while pids := processes_of(uid):
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
