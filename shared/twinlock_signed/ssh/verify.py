"""Verify a person's signature of a delegation, by ssh-keygen."""

import datetime
import re
from pathlib import Path
from typing import NamedTuple
from zoneinfo import ZoneInfo

from twinlock_signed.delegation import MOST, NAMESPACE
from twinlock_signed.errors import Refused
from twinlock_signed.ssh import keygen
from twinlock_signed.statement import check_size

_MOST_SIGNATURE = 32 << 10
"""Bytes of a signature. A large RSA key with a certificate of many principals has some 10,000."""

_LEAST_RSA = 2048
"""Bits."""

_TYPES = ("RSA", "ECDSA", "ED25519", "ECDSA-SK", "ED25519-SK")
"""As `ssh-keygen -l` names them; those of certificates end in ``-CERT``. DSA isn't among them."""

_ZONE = Path("/etc/localtime")


class Key(NamedTuple):
    """The key that has signed."""

    fingerprint: str
    """Such as ``SHA256:caaJI+Vm57zY...``; of a certificate that of its key."""
    kind: str
    """As `ssh-keygen -l` names it, such as ``ED25519-CERT``."""


def verify(
    statement: bytes, signature: bytes, account: str, signers: bytes, revoked: bytes = b"", as_of: int | None = None
) -> Key:
    """Return the key with which a delegation was signed. What it says isn't looked at.

    Args:
        statement: the delegation.
        signature: as ssh-keygen has written it.
        account: the account's name, which is that of a signer and a principal of certificates.
        signers: an allowed_signers file (ssh-keygen(1)).
        revoked: a key revocation list, or a list of public keys.
        as_of: seconds since 1970, if the validity of keys and certificates at another time than now matters.

    Raises:
        Refused: it isn't signed by a signer's good key.
    """
    check_size("delegation", statement, MOST)
    check_size("signature of the delegation", signature, _MOST_SIGNATURE)
    arguments = ["-q", "-Y", "verify", "-n", NAMESPACE, "-I", account, "-O", "print-pubkey"]
    arguments += ["-f", "SIGNERS", "-r", "REVOKED", "-s", "SIGNATURE"]
    if as_of is not None:
        arguments += ["-O", f"verify-time={_local(as_of)}"]
    files = {"SIGNERS": signers, "REVOKED": revoked, "SIGNATURE": signature}
    done = keygen.run(arguments, files, statement)
    if done.returncode != 0:
        reason = keygen.words(done.stderr) or "the key isn't among the account's signers, or is revoked"
        raise Refused(
            f"The delegation has no good signature for {account} ({reason}); sign with a key that the site accepts"
        )
    key = _describe(done.stdout)
    if key.kind.endswith("-CERT"):
        _check_certificate(done.stdout)
    return key


def is_strong(kind: str, bits: int) -> bool:
    """Return whether a key of this kind and size, as `ssh-keygen -l` prints them, may sign."""
    plain = kind.removesuffix("-CERT")
    return plain in _TYPES and (plain != "RSA" or bits >= _LEAST_RSA)


def _local(moment: int) -> str:
    """Return the time as ssh-keygen reads it: in the host's own zone, since those before 9.1 know no other."""
    try:
        with _ZONE.open("rb") as file:
            zone: datetime.tzinfo = ZoneInfo.from_file(file)
    except FileNotFoundError:
        zone = datetime.timezone.utc  # noqa: UP017 - users may have Python 3.10
    return datetime.datetime.fromtimestamp(moment, zone).strftime("%Y%m%d%H%M%S")


def _describe(public: bytes) -> Key:
    """Return what kind of key it is. Raise `Refused` if it is weak."""
    done = keygen.run(["-l", "-E", "sha256", "-f", "KEY"], {"KEY": public})
    found = re.fullmatch(r"(\d+) (SHA256:[\w+/]+) .*\(([A-Z0-9-]+)\)\n", done.stdout.decode("latin-1"), re.DOTALL)
    if done.returncode != 0 or found is None:
        raise Refused(f"The key of the delegation can't be read ({keygen.words(done.stderr)}); use another one")
    bits, fingerprint, kind = int(found[1]), found[2], found[3]
    if not is_strong(kind, bits):
        raise Refused(
            f"The key {fingerprint} is {kind} of {bits} bits, which is too weak; use ED25519, or RSA of {_LEAST_RSA}"
        )
    return Key(fingerprint, kind)


def _check_certificate(public: bytes) -> None:
    """Raise `Refused` if the certificate has critical options: `-Y verify` doesn't look at them.

    Its id and its principals are printed as they are, so a line in the output may be made up. None can be taken away,
    so there has to be just one about critical options.
    """
    done = keygen.run(["-L", "-f", "KEY"], {"KEY": public})
    lines = [line.strip() for line in done.stdout.split(b"\n") if b"Critical Options" in line]
    if done.returncode != 0 or lines != [b"Critical Options: (none)"]:
        raise Refused(
            "The certificate of the delegation has critical options, such as force-command or source-address, "
            "so it isn't for every kind of work; sign with one that has none"
        )
    if b"(using ssh-rsa)" in done.stdout:
        raise Refused("The certificate of the delegation is signed by SHA-1; ask your site for one by rsa-sha2-256")
