"""Delegations: a user's SSH key lets a session key submit tasks to one endpoint, with certain options, for a time."""

import json
import os
import secrets
import stat
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from nacl.signing import SigningKey
from twinlock_signed import delegation
from twinlock_signed.delegation import Delegation
from twinlock_signed.dsse import public_half
from twinlock_signed.errors import Refused
from twinlock_signed.statement import digest

from twinlock_client.ssh_keys import Sign
from twinlock_client.user import User

DAY = 86400
"""Seconds for which a delegation is valid if nothing else is asked for; it is also what hosts accept by default."""

LONGEST = 10 * 365 * DAY
"""Seconds for which one may be valid; no host accepts a longer one."""

_MOST = 1 << 20
"""Bytes of a file."""


class Delegated(NamedTuple):
    """A delegation with its session key."""

    said: Delegation
    statement: str
    """The very text that was signed."""
    signature: str
    """The SSH key's, as ssh-keygen writes it."""
    key: SigningKey
    """The session's. It stays in memory, unless `save` writes it."""

    @property
    def digest(self) -> str:
        """The SHA-256 of the statement, in hexadecimal digits."""
        return digest(self.statement.encode("ascii"))


def make(
    user: User, manager: str, options: dict[str, Any], runtime: dict[str, Any], seconds: int, sign: Sign
) -> Delegated:
    """Return a new delegation, signed, for a new session key.

    Args:
        user: whose account the tasks run under.
        manager: the uuid of the manager endpoint.
        options: the SDK's `user_endpoint_config`.
        runtime: the SDK's `user_runtime`.
        seconds: for how long it is valid.
        sign: signs it with the user's SSH key.

    Raises:
        Refused: it is too large or for too long, has options that JSON can't say, or isn't signed.
    """
    if seconds > LONGEST:
        raise Refused(f"A delegation for {seconds} s: it is too long; ask for {LONGEST} s or less, and mostly a day")
    key, now = SigningKey.generate(), int(time.time())
    said = Delegation(
        id=secrets.token_hex(16),
        account=str(user),
        manager=manager,
        session_key=public_half(key),
        user_endpoint_config=plain(options),
        user_runtime=runtime,
        issued=now,
        expires=now + seconds,
    )
    statement = delegation.write(said)
    return Delegated(said, statement.decode("ascii"), sign(statement), key)


def plain(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return options as JSON has them. Raise `Refused` if JSON can't say them."""
    try:
        return cast("dict[str, Any]", json.loads(json.dumps(options or {}, allow_nan=False)))
    except (TypeError, ValueError, RecursionError) as error:
        raise Refused(
            f"user_endpoint_config: JSON can't say it ({error}); use texts, numbers, lists and dicts"
        ) from None


def save(made: Delegated, path: Path) -> None:
    """Write a delegation with its session key to a new file that only the user can read.

    Raise `Refused` if there is a file already.
    """
    text = json.dumps({"delegation": made.statement, "signature": made.signature, "session_key": bytes(made.key).hex()})
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError:
        raise _exists(path) from None
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def check_new(path: Path) -> None:
    """Raise `Refused` if `save` would because there is a file already: before somebody has to touch a key."""
    if os.path.lexists(path):
        raise _exists(path)


def _exists(path: Path) -> Refused:
    return Refused(f"{path}: it is there already; remove it, or name another file")


def load(path: Path) -> Delegated:
    """Return the delegation in a file. Raise `Refused` if it can't be used."""
    text = _read_private(path)
    try:
        fields = json.loads(text)
        statement, signature = str(fields["delegation"]), str(fields["signature"])
        key = SigningKey(bytes.fromhex(fields["session_key"]))
        said = delegation.read(statement.encode("ascii"))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Refused(f"{path}: it is not a delegation's file; make one with `twinlock-client delegate`") from None
    if said.session_key != public_half(key):
        raise Refused(f"{path}: its session key is another one's; make a new one with `twinlock-client delegate`")
    if time.time() >= said.expires:
        raise Refused(f"{path}: the delegation has expired; make a new one with `twinlock-client delegate`")
    return Delegated(said, statement, signature, key)


def _read_private(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}; name a file that `twinlock-client delegate` has made") from None
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise Refused(f"{path}: others could read or change it; make a new one with `twinlock-client delegate`")
        return file.read(_MOST).decode("utf-8", "replace")
