"""The site's revoked keys: a key revocation list (ssh-keygen(1)) or a list of public keys, one a line."""

from pathlib import Path

from twinlock_signed import regular_file
from twinlock_signed.errors import ConfigError
from twinlock_signed.ssh import public_key
from twinlock_signed.trust import check_trusted

_KRL = b"SSHKRL\n\0"
"""How a key revocation list begins: PROTOCOL.krl of OpenSSH."""

_NO_KEY = ("#", "ssh-dss")
"""How lines begin that needn't be known: comments, and DSA keys, which sign nothing and which OpenSSH 10 can't read."""

_MOST = 64 << 20
"""Bytes of the file."""


def read(path: str) -> bytes:
    """Return the content of the file at `path`, as ssh-keygen reads it.

    Raise `ConfigError` if it can't be read or understood, or others than root could change it: then no key is good.
    """
    check_trusted(path)
    try:
        text = regular_file.read(Path(path), _MOST)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; correct that, until then nothing runs") from error
    return parse(path, text)


def parse(path: str, text: bytes) -> bytes:
    """Return the text of the file at `path` as ssh-keygen reads it. Raise `ConfigError` if it can't be understood."""
    if text.startswith(_KRL):
        return text
    lines = (line.strip(" \t\r") for line in text.decode("latin-1").split("\n"))
    kept = [_key(path, number, line) for number, line in enumerate(lines, 1) if line and not line.startswith(_NO_KEY)]
    return "".join(f"{line}\n" for line in kept).encode("ascii")


def _key(path: str, number: int, line: str) -> str:
    key = public_key.read(line)
    if key is None:
        raise ConfigError(f"{path}: line {number} is not a public key; correct it, until then nothing runs")
    return key
