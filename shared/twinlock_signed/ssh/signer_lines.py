"""Lines that name signers, in the forms in which sites and users have them, made into lines of one form.

That form is ssh-keygen's allowed_signers (ssh-keygen(1)). Each line is written anew from the parts that were
understood, so that nothing else of it can mean something there.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from twinlock_signed.ssh import public_key

_OPTION = re.compile(r'(?P<name>[A-Za-z0-9-]+)(="(?P<value>(?:\\"|[^"])*)")?(?P<end>,|[ \t]+)')
# Options of authorized_keys stand where principals stand here; most have a quotation mark and "=".
_PRINCIPALS = re.compile(r"(?P<principals>[!#-<>-~]+)[ \t]+(?P<rest>.*)")
_TIME = r"\d{8}(\d{4}(\d{2})?)?Z?"
_NAMESPACES = r"[!#-~]+"

_OF_ALLOWED_SIGNERS = {
    "cert-authority": ("cert-authority", None),
    "namespaces": ("namespaces", _NAMESPACES),
    "valid-after": ("valid-after", _TIME),
    "valid-before": ("valid-before", _TIME),
}
_OF_AUTHORIZED_KEYS = {"cert-authority": ("cert-authority", None), "expiry-time": ("valid-before", _TIME)}
"""Options by their names: how allowed_signers calls them, and the form of the value, if there is one."""

_Options = Mapping[str, tuple[str, str | None]]


class Parsed(NamedTuple):
    """What a text of signers has."""

    lines: tuple[str, ...]
    """In the form of allowed_signers."""
    skipped: tuple[str, ...]
    """Why lines of it don't count, each with the line's number."""


class _Skip(ValueError):
    """A line doesn't count; the text says why."""


def allowed_signers(text: bytes, account: str | None) -> Parsed:
    """Read allowed_signers lines, and lines that are just public keys: those are the account's.

    If the text isn't one account's, `account` is None, and such lines don't count: they would count for everybody.
    """
    return _parse(text, lambda line: _allowed_signer(line, account))


def authorized_keys(text: bytes, account: str) -> Parsed:
    """Read the account's authorized_keys (sshd(8)): the keys with which it may do anything, or certify others."""
    return _parse(text, lambda line: _signer(account, line, _OF_AUTHORIZED_KEYS))


def _parse(text: bytes, read: Callable[[str], str]) -> Parsed:
    lines, skipped = [], []
    for number, line in enumerate(text.decode("latin-1").split("\n"), 1):
        stripped = line.strip(" \t\r")
        if not stripped or stripped.startswith("#"):
            continue
        try:
            lines.append(read(stripped))
        except _Skip as reason:
            skipped.append(f"line {number}: {reason}")
    return Parsed(tuple(lines), tuple(skipped))


def _allowed_signer(line: str, account: str | None) -> str:
    if public_key.read(line):
        if account is None:
            raise _Skip("it has a key and doesn't say whose it is; write the account's name before it")
        return _signer(account, line, {})
    found = _PRINCIPALS.fullmatch(line)
    if found is None:
        raise _Skip("it is neither a public key nor names a signer")
    return _signer(found["principals"], found["rest"], _OF_ALLOWED_SIGNERS)


def _signer(principals: str, line: str, known: _Options) -> str:
    key = public_key.read(line)
    options: list[tuple[str, str | None]] = []
    if key is None:
        options, rest = _split_options(line)
        key = public_key.read(rest)
    if key is None:
        raise _Skip("it has no public key of a type that can sign")
    words = [principals, ",".join(_translate(options, known)), key]
    return " ".join(word for word in words if word)


def _split_options(line: str) -> tuple[list[tuple[str, str | None]], str]:
    """Return the options by name and value, and what follows them."""
    found: list[tuple[str, str | None]] = []
    position = 0
    while option := _OPTION.match(line, position):
        found.append((option["name"].lower(), option["value"]))
        position = option.end()
        if option["end"] != ",":
            break
    return found, line[position:]


def _translate(options: list[tuple[str, str | None]], known: _Options) -> Iterator[str]:
    names = [name for name, _ in options]
    for name, value in options:
        if name not in known:
            raise _Skip(f"it has the option {name}, which says that the key isn't for every kind of work")
        if names.count(name) > 1:
            raise _Skip(f"it has the option {name} more than once")
        theirs, form = known[name]
        if (value is None) != (form is None) or (form is not None and not re.fullmatch(form, value or "")):
            raise _Skip(f"its option {name} has a value that can't be understood")
        yield theirs if value is None else f'{theirs}="{value}"'
