"""Where the signers of an account are found: files and commands of root's, or the account's authorized_keys."""

import os
import pwd
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from twinlock_signed import regular_file
from twinlock_signed.account import is_account
from twinlock_signed.errors import ConfigError
from twinlock_signed.ssh.signer_lines import Parsed, allowed_signers, authorized_keys
from twinlock_signed.trust import check_command, check_strict_modes, check_trusted

LIMIT = 20.0
"""Seconds that a command may take."""

MOST = 1 << 20
"""Bytes of a file."""

AUTHORIZED_KEYS = "~/.ssh/authorized_keys"

_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


class Source(Protocol):
    """A place where signers are found. `str` gives it as it stands in the administrator's file."""

    def read(self, account: str) -> Parsed:
        """Return the signers of an account. Raise `ConfigError` or `OSError` if they can't be known."""


class File(NamedTuple):
    """An allowed_signers file of root's. In its path ``%u`` is the account, which has no signers if it has no file."""

    path: str

    def __str__(self) -> str:
        return self.path

    def read(self, account: str) -> Parsed:
        """Return the signers in it."""
        path = self.path.replace("%u", account)
        if path != self.path and not os.path.lexists(path):
            return Parsed((), ())
        check_trusted(path)
        return allowed_signers(regular_file.read(Path(path), MOST), account if path != self.path else None)


class Command(NamedTuple):
    """A command of root's that prints allowed_signers lines; or public keys, if it is told the account by ``%u``."""

    argv: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.argv)

    def read(self, account: str) -> Parsed:
        """Return the signers that it prints."""
        check_command(self.argv)
        argv = [word.replace("%u", account) for word in self.argv]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, capture_output=True, env={"PATH": _PATH}, timeout=LIMIT, check=False
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(f"{self}: it took more than {LIMIT:.0f} s; see why by running it") from None
        if done.returncode != 0:
            raise ConfigError(f"{self}: it ended with {done.returncode}; see why by running it")
        return allowed_signers(done.stdout, account if tuple(argv) != self.argv else None)


class AuthorizedKeys(NamedTuple):
    """The account's authorized_keys, if sshd with StrictModes would read it."""

    def __str__(self) -> str:
        return AUTHORIZED_KEYS

    def read(self, account: str) -> Parsed:
        """Return the keys in it with which the account may do anything."""
        entry = pwd.getpwnam(account)
        path = Path(entry.pw_dir, ".ssh", "authorized_keys")
        if not path.exists():
            return Parsed((), ())
        check_strict_modes(path, Path(entry.pw_dir), entry.pw_uid)
        return authorized_keys(regular_file.read(path, MOST), account)


class Found(NamedTuple):
    """What a source has for an account."""

    source: Source
    parsed: Parsed
    problem: str
    """Why nothing could be read; empty if it was read."""


def find(sources: Sequence[Source], account: str) -> tuple[Found, ...]:
    """Return what each source has for an account. One that fails has no signers, and the others count."""
    if not is_account(account):
        raise ConfigError(f"account {account!r}: signed work can't be for this name; see `is_account`")
    return tuple(_try(source, account) for source in sources)


def lines(found: Sequence[Found]) -> bytes:
    """Return all signers that were found, as one allowed_signers file."""
    return "".join(f"{line}\n" for each in found for line in each.parsed.lines).encode("ascii")


def _try(source: Source, account: str) -> Found:
    try:
        return Found(source, source.read(account), "")
    except ConfigError as error:
        return Found(source, Parsed((), ()), str(error))
    except (OSError, KeyError) as error:
        return Found(source, Parsed((), ()), f"{source}: it can't be read ({error})")
