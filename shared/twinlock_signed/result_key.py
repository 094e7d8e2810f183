"""The key with which an account signs its results: an Ed25519 key in a file that only the account can read.

The file is a line such as ``twinlock-result-secret-v1 9d61...``: the key's seed (RFC 8032), in hexadecimal digits.
Beside it is the key's public half, which users of other computers fetch: ``twinlock-result-key-v1 5f0c...``.
"""

import contextlib
import os
import re
import secrets
import stat
from pathlib import Path

from nacl.signing import SigningKey

from twinlock_signed.dsse import public_half
from twinlock_signed.errors import ConfigError, Refused

PLACE = "~/.local/state/twinlock/result.key"

PUBLIC_PLACE = "~/.local/state/twinlock/result.pub"

_LINE = re.compile(r"^twinlock-result-key-v1 ([0-9a-f]{64})$", re.MULTILINE)

_SECRET = re.compile(r"twinlock-result-secret-v1 ([0-9a-f]{64})\n")

_MOST = 4096
"""Bytes of the file that are read; it has 91."""


def load_or_make(path: Path) -> SigningKey:
    """Return the key at `path`, which is made if there is none; of several processes that do so, one makes it.

    Its public half is written beside it, where it isn't there yet.

    Raises:
        ConfigError: the file isn't a key, or others than its account could read it.
        OSError: it can't be read or made.
    """
    if not os.path.lexists(path):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
    key = load(path)
    _publish(path.with_suffix(".pub"), key)
    return key


def public_line(key: SigningKey) -> str:
    """Return the public half as it is handed to users: a line, with its end."""
    return f"twinlock-result-key-v1 {public_half(key)}\n"


def read_public(text: str) -> str:
    """Return the public half in a text, in hexadecimal digits. What a login prints besides is skipped.

    Raise `Refused` if the text has no such line, or different ones.
    """
    found = set(_LINE.findall(text.replace("\r", "")))
    if len(found) != 1:
        raise Refused(
            f"There {'are several result keys' if found else 'is no result key'} in what came; "
            "it has to have one line that begins with twinlock-result-key-v1"
        )
    return str(found.pop())


def _publish(path: Path, key: SigningKey) -> None:
    line = public_line(key).encode("ascii")
    with contextlib.suppress(FileNotFoundError):
        if path.read_bytes() == line:
            return
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    draft.write_bytes(line)
    draft.replace(path)


def _make(path: Path) -> None:
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")  # processes of two hosts may have one pid
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"twinlock-result-secret-v1 {bytes(SigningKey.generate()).hex()}\n".encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)  # unlike a rename, it leaves a key that is there
    finally:
        draft.unlink()


def load(path: Path) -> SigningKey:
    """Return the key at `path`. Raise `ConfigError` or `OSError` as `load_or_make` does."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o077:
            raise ConfigError(f"{path}: others could read or change it; make it a file of your own with mode 600")
        found = _SECRET.fullmatch(file.read(_MOST).decode("ascii", "replace"))
    if found is None:
        raise ConfigError(f"{path}: it is not a key for results; remove it, and enroll the new one with clients")
    return SigningKey(bytes.fromhex(found[1]))
