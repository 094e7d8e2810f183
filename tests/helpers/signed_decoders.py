"""What of signed work reads bytes of others, each with a check: it refuses in words, or what it has read is sound.

Each check returns whether the bytes were accepted, and raises for whatever else comes of them than a refusal. The files
in tests/fuzz/corpus are examples, in a folder for each check; the name of a file says whether it is good or bad.
"""

import json
import math
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from nacl.signing import SigningKey
from signed_rig import HOST, MANAGER
from twinlock_endpoint.verified import envelopes
from twinlock_endpoint.verified.envelopes import Kept
from twinlock_signed import delegation, result, statement, task
from twinlock_signed.delegation import SKEW
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.replay import revoked_ids
from twinlock_signed.ssh import public_key, revoked_keys
from twinlock_signed.ssh.signer_lines import allowed_signers, authorized_keys
from twinlock_signed.statement import digest

CORPUS = Path(__file__).parents[1] / "fuzz/corpus"

NOW = 1_764_444_444
"""When statements of the corpus are valid, in seconds since 1970."""

SESSION = SigningKey(b"\1" * 32)
"""The session key of the corpus's delegation `good-usual`."""

STRANGER = SigningKey(b"\3" * 32)

DELEGATION = (CORPUS / "delegation/good-usual").read_bytes()

FORMS = {
    "text": statement.TEXT,
    "texts": statement.TEXTS,
    "object": statement.OBJECT,
    "flag": statement.FLAG,
    "number": statement.NUMBER,
    "time": statement.TIME,
    "uuid": statement.UUID,
    "digest": statement.SHA256,
}

_LINE = re.compile(r'(?P<principals>\S+)( (?P<options>cert-authority|[a-z-]+="[^" ]*"|,)+)? (?P<key>\S+ \S+)')


def corpus(name: str) -> dict[str, bytes]:
    """The examples for a check, by the names of their files."""
    return {path.name: path.read_bytes() for path in sorted((CORPUS / name).iterdir())}


def check_statement(data: bytes) -> bool:
    """Of a form that has a field of each kind."""
    try:
        fields = statement.decode("statement", data, delegation.MOST, FORMS)
    except Refused:
        return False
    assert fields == json.loads(data)
    assert fields.keys() == FORMS.keys()
    assert all(form.accepts(fields[name]) for name, form in FORMS.items())
    return True


def check_delegation(data: bytes) -> bool:
    """That a good signature may have."""
    try:
        said = delegation.read(data)
    except Refused:
        return False
    assert delegation.read(delegation.write(said)) == said
    assert json.loads(delegation.options(said.user_endpoint_config)) == said.user_endpoint_config
    with suppress(Refused):
        delegation.check(said, HOST, NOW)
        assert (said.account, said.manager) == (HOST.user, MANAGER)
        assert said.issued - SKEW <= NOW < said.expires <= said.issued + HOST.longest
    return True


def check_task(data: bytes) -> bool:
    """That the session key has signed, and nobody else."""
    said = delegation.read(DELEGATION)
    try:
        found = task.verify(data, task.sign(data, SESSION), said, digest(DELEGATION), NOW)
    except Refused:
        return False
    assert found.delegation == digest(DELEGATION)
    assert found.issued - SKEW <= NOW < found.expires
    again = task.write(found)
    assert task.verify(again, task.sign(again, SESSION), said, digest(DELEGATION), NOW) == found
    with suppress(Refused):
        task.verify(data, task.sign(data, STRANGER), said, digest(DELEGATION), NOW)
        raise AssertionError("a stranger's signature is good")
    return True


def check_envelope(data: bytes) -> bool:
    """The body of a delivery."""
    try:
        found = envelopes.read(data)
    except Refused:
        return False
    assert [type(text) for text in found] == [str] * 4
    if all(text.isascii() for text in found):  # others are refused before the journal gets them
        kept = Kept(float(NOW), found)
        assert envelopes.kept(envelopes.keep(kept)) == kept
    return True


def check_kept(data: bytes) -> bool:
    """The body of a task in the journal."""
    try:
        found = envelopes.kept(data)
    except Refused:
        return False
    assert type(found.accepted) is float
    assert math.isfinite(found.accepted)
    assert [type(text) for text in found.envelope] == [str] * 4
    return True


def check_result(data: bytes) -> bool:
    """The text of a result that anybody may have made."""
    try:
        signed, _ = result.unpack(data.decode("utf-8", "replace"))
        found = result.claimed(signed, MANAGER, digest(b"a task"))
    except Refused:
        return False
    assert result.claimed(result.write(found), MANAGER, digest(b"a task")) == found
    return True


def check_signers(data: bytes) -> bool:
    """Files of signers, of root's and of the account's. Lines of them count, or don't."""
    of_site, of_account = allowed_signers(data, "ada"), authorized_keys(data, "ada")
    for line in (*of_site.lines, *of_account.lines):
        found = _LINE.fullmatch(line)
        assert found, line
        assert public_key.read(found["key"]) == found["key"]
        assert found["key"].split()[1].encode() in data
    assert all(line.startswith("ada ") for line in of_account.lines)
    return bool(of_site.lines)


def check_revoked_keys(data: bytes) -> bool:
    """The site's list of revoked keys."""
    try:
        found = revoked_keys.parse("revoked", data)
    except ConfigError:
        return False
    assert found == data or all(public_key.read(line) == line for line in found.decode("ascii").splitlines())
    return True


def check_revoked_ids(data: bytes) -> bool:
    """What a user has revoked."""
    try:
        found = revoked_ids.parse(Path("revoked"), data)
    except ConfigError:
        return False
    assert all(delegation.ID.accepts(each) for each in found.ids)
    assert found.before >= 0
    return True


CHECKS: dict[str, Callable[[bytes], bool]] = {
    "statement": check_statement,
    "delegation": check_delegation,
    "task": check_task,
    "envelope": check_envelope,
    "kept": check_kept,
    "result": check_result,
    "signers": check_signers,
    "revoked_keys": check_revoked_keys,
    "revoked_ids": check_revoked_ids,
}
