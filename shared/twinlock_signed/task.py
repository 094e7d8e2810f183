"""Tasks, signed by a session key. Each comes with the delegation that the key has."""

from dataclasses import dataclass, field
from typing import Any

from nacl.signing import SigningKey

from twinlock_signed import dsse
from twinlock_signed.delegation import Delegation, check_times
from twinlock_signed.errors import Refused
from twinlock_signed.statement import NUMBER, OBJECT, SHA256, TEXT, TEXTS, TIME, check_size, decode, encode

TYPE = "application/vnd.twinlock.task.v1+json"

MOST = 10 << 20
"""Bytes of a task."""

_FORMS = {
    "delegation": SHA256,
    "number": NUMBER,
    "issued": TIME,
    "expires": TIME,
    "resource_specification": OBJECT,
    "result_serializers": TEXTS,
    "function": TEXT,
    "args": TEXT,
    "kwargs": TEXT,
}


@dataclass(frozen=True)
class Task:
    """What a session key has signed."""

    delegation: str
    """The SHA-256 of the delegation, in hexadecimal digits."""
    number: int
    """Each task of a delegation has another one."""
    issued: int
    """Seconds since 1970."""
    expires: int
    """Seconds since 1970; from then on an endpoint doesn't accept it."""
    resource_specification: dict[str, Any]
    """What the SDK's executor has under this name; empty if nothing is asked for."""
    result_serializers: list[str]
    """The SDK's strategies for the result, by their import paths; empty for the default ones."""
    function: str = field(repr=False)
    """The SDK's buffer with the code."""
    args: str = field(repr=False)
    """The SDK's buffer with the positional arguments."""
    kwargs: str = field(repr=False)
    """The SDK's buffer with the named arguments."""


def write(task: Task) -> bytes:
    """Return the statement. Raise `Refused` if it has more than `MOST` bytes, or a field that hosts would refuse."""
    statement = encode(vars(task))
    _read(statement)
    return statement


def sign(statement: bytes, session: SigningKey) -> str:
    """Return the session key's signature of a task's statement."""
    return dsse.sign(session, TYPE, statement)


def verify(statement: bytes, signature: str, delegation: Delegation, delegation_digest: str, now: float) -> Task:
    """Return the task that a statement asks for.

    Args:
        statement: the task's statement. It is looked into only after its signature was found good.
        signature: the session key's.
        delegation: as it has been verified.
        delegation_digest: the SHA-256 of its statement.
        now: the time in seconds since 1970. That the delegation is valid then has to be known.

    Raises:
        Refused: the session key hasn't signed it, or it isn't valid at `now`, or is a task of another delegation.
    """
    check_size("task", statement, MOST)
    dsse.verify("task", delegation.session_key, TYPE, statement, signature)
    task = _read(statement)
    if task.delegation != delegation_digest:
        raise Refused("The task belongs to another delegation of the same key; submit the task again")
    check_times("task", task.issued, task.expires, now)
    return task


def _read(statement: bytes) -> Task:
    return Task(**decode("task", statement, MOST, _FORMS))
