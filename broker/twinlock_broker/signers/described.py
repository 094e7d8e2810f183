"""Signers for people: the key on each line, whether it counts for an account now, and if it doesn't, why.

Whatever ssh-keygen decides when a delegation is verified is asked of ssh-keygen here too.
"""

import re
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import NamedTuple

from twinlock_signed.delegation import NAMESPACE
from twinlock_signed.errors import Refused
from twinlock_signed.ssh import keygen
from twinlock_signed.ssh.verify import is_strong

_ANY_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMlJJJEj/bAvLJTXWE19V75OI9wP5o0xHkDInvxSaBC1"
"""A good key, which belongs to nobody: a line of signers has to have one."""

_EVERYBODY = "*"
_OPTION = re.compile(r'([a-z-]+)(?:="([^"]*)")?')
_FINGERPRINT = re.compile(
    r"(?P<bits>\d+) (?P<fingerprint>SHA256:[A-Za-z0-9+/]+) (?P<index>\d+) \((?P<kind>[A-Z0-9-]+)\)"
)
_STATE = re.compile(r" \((?P<index>\d+)\): (?P<state>ok|REVOKED)$", re.MULTILINE)
_TIMES = {8: "%Y%m%d", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
"""The forms of times in allowed_signers (ssh-keygen(1)), by the number of their digits."""


class Signer(NamedTuple):
    """A key that may sign for the account, or certify keys that may."""

    kind: str
    """Such as ED25519, as `ssh-keygen -l` names it; the line's own word for it if ssh-keygen can't read the key."""
    bits: int
    fingerprint: str
    """Empty if ssh-keygen can't read the key."""
    is_authority: bool
    """It certifies keys, for the account's name as a principal."""
    principals: str
    """The names for which it counts, as the line has them."""
    valid_after: str
    """As the line has it; empty without a beginning."""
    valid_before: str
    """As the line has it; empty without an end."""
    problem: str
    """Why it doesn't count now; empty if it does."""


class _Line(NamedTuple):
    """The parts of a line that `signer_lines` has written."""

    principals: str
    options: Mapping[str, str]
    kind: str
    blob: str


class _Key(NamedTuple):
    bits: int
    fingerprint: str
    kind: str


def of_account(lines: Sequence[str], account: str) -> list[str]:
    """Return those of the lines, in the form of `signer_lines`, that name the account. Raise `Refused`."""
    fitting = _fitting(account, {_parse(line).principals for line in lines})
    return [line for line in lines if _parse(line).principals in fitting]


def describe(lines: Sequence[str], revoked: bytes) -> list[Signer]:
    """Return what each line says.

    Args:
        lines: in the form of `signer_lines`. A few hundred at most: each costs an open file.
        revoked: a key revocation list, or a list of public keys, in the form of `revoked_keys`.

    Raises:
        Refused: ssh-keygen can't be run, or can't tell which keys are revoked.
    """
    parsed = [_parse(line) for line in lines]
    keys = _keys(parsed)
    gone = _revoked({index: _public(parsed[index], index) for index in keys}, revoked)
    namespaces = {line.options["namespaces"] for line in parsed if "namespaces" in line.options}
    ours = _fitting(NAMESPACE, namespaces)
    return [_signer(line, keys.get(index), index in gone, ours) for index, line in enumerate(parsed)]


def _parse(line: str) -> _Line:
    principals, *options, kind, blob = line.split(" ")
    return _Line(principals, dict(_OPTION.findall(" ".join(options))), kind, blob)


def _public(line: _Line, index: int) -> bytes:
    """Return the key as a file of its own, with its index as its comment."""
    return f"{line.kind} {line.blob} {index}\n".encode("ascii")


def _fitting(name: str, patterns: Collection[str]) -> set[str]:
    """Return those of the lists of patterns that a name fits, which only ssh-keygen knows for certain."""
    if not patterns:
        return set()
    tried = "".join(f"{each} {_ANY_KEY}\n" for each in sorted({_EVERYBODY, *patterns}))
    done = keygen.run(["-Y", "match-principals", "-I", name, "-f", "PATTERNS"], {"PATTERNS": tried.encode("ascii")})
    found = set(done.stdout.decode("ascii", "replace").split("\n"))
    if _EVERYBODY not in found:
        raise Refused(f"{keygen.PROGRAM} can't match names ({keygen.words(done.stderr)}); install OpenSSH 8.9 or later")
    return found.intersection(patterns)


def _keys(lines: Sequence[_Line]) -> dict[int, _Key]:
    """Return the keys that ssh-keygen can read, by their index."""
    text = b"".join(_public(line, index) for index, line in enumerate(lines))
    done = keygen.run(["-l", "-E", "sha256", "-f", "KEYS"], {"KEYS": text})
    rows = map(_FINGERPRINT.fullmatch, done.stdout.decode("ascii", "replace").split("\n"))
    return {int(row["index"]): _Key(int(row["bits"]), row["fingerprint"], row["kind"]) for row in rows if row}


def _revoked(keys: Mapping[int, bytes], revoked: bytes) -> set[int]:
    """Return the indexes of those keys that are revoked."""
    if not revoked or not keys:
        return set()
    if not revoked.startswith(b"SSHKRL"):
        listed = set(revoked.split(b"\n"))
        return {index for index, key in keys.items() if key.rpartition(b" ")[0] in listed}
    names = [f"KEY{index}" for index in keys]
    done = keygen.run(
        ["-Q", "-f", "REVOKED", *names], dict(zip(names, keys.values(), strict=True)) | {"REVOKED": revoked}
    )
    rows = {int(row["index"]): row["state"] for row in _STATE.finditer(done.stdout.decode("ascii", "replace"))}
    if rows.keys() != keys.keys():
        reason = keygen.words(done.stderr)
        raise Refused(f"The key revocation list can't be read ({reason}); make it anew, until then nothing runs")
    return {index for index, state in rows.items() if state == "REVOKED"}


def _signer(line: _Line, key: _Key | None, is_revoked: bool, ours: Collection[str]) -> Signer:
    known = key or _Key(0, "", line.kind)
    is_authority = "cert-authority" in line.options
    after, before = line.options.get("valid-after", ""), line.options.get("valid-before", "")
    problem = _problem(line, key, is_revoked, ours) or _of_time(after, before)
    return Signer(known.kind, known.bits, known.fingerprint, is_authority, line.principals, after, before, problem)


def _problem(line: _Line, key: _Key | None, is_revoked: bool, ours: Collection[str]) -> str:
    if key is None:
        return "ssh-keygen can't read the key"
    if is_revoked:
        return "it is revoked by the site"
    if "cert-authority" not in line.options and not is_strong(key.kind, key.bits):
        return "it is too weak"
    namespaces = line.options.get("namespaces")
    if namespaces is not None and namespaces not in ours:
        return f"it is for the namespaces {namespaces} only, which {NAMESPACE} isn't among"
    return ""


def _of_time(after: str, before: str) -> str:
    now = time.time()
    try:
        if after and now < _moment(after):
            return "it isn't valid yet"
        if before and now > _moment(before):
            return "it has expired"
    except ValueError:
        return "its time can't be understood"
    return ""


def _moment(text: str) -> float:
    """Return seconds since 1970. Without a Z it is the host's own time.

    Raise `ValueError` if it isn't a time, or so early that ssh-keygen takes no notice of the whole line.
    """
    digits = text.removesuffix("Z")
    parsed = datetime.strptime(digits, _TIMES[len(digits)])
    moment = parsed.replace(tzinfo=UTC if text.endswith("Z") else None).timestamp()
    if moment <= 0:
        raise ValueError("not after the beginning of 1970")
    return moment
