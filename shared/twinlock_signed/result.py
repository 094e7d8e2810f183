"""Results, signed by a key of the account that the task ran under."""

import json
from dataclasses import dataclass, field

from nacl.signing import SigningKey

from twinlock_signed import dsse
from twinlock_signed.errors import Refused
from twinlock_signed.statement import FLAG, SHA256, TEXT, UUID, check_size, decode, write_flat

TYPE = "application/vnd.twinlock.result.v1+json"

MOST = 64 << 20
"""Bytes of a result. The service takes some 10 MB, in which quotes and the like are escaped once more here."""

JSON_DATA = "11\n"
"""How a text begins that the SDK's strategy `JSONData` has made."""

_FORMS = {"manager": UUID, "task": SHA256, "success": FLAG, "data": TEXT}


@dataclass(frozen=True)
class Result:
    """What the account's key has signed."""

    manager: str
    """The uuid of the manager endpoint."""
    task: str
    """The SHA-256 of the task's statement, in hexadecimal digits."""
    success: bool
    """Whether `data` is what the function returned; else it is about the error."""
    data: str = field(repr=False)
    """As the SDK's serializer has packed it."""


def write(result: Result) -> bytes:
    """Return the statement. Raise `Refused` if it has more than `MOST` bytes, or a field that clients would refuse."""
    return write_flat("result", vars(result), MOST, _FORMS)


def sign(statement: bytes, key: SigningKey) -> str:
    """Return the signature of a result's statement by the account's key."""
    return dsse.sign(key, TYPE, statement)


def pack(statement: bytes, signature: str) -> str:
    """Return the text that travels in place of a plain result: both, as the SDK's `JSONData` packs a list."""
    return JSON_DATA + json.dumps([statement.decode("ascii"), signature])


def unpack(text: str) -> tuple[bytes, str]:
    """Return the statement and the signature of a text that travelled. Raise `Refused` if it hasn't got them."""
    check_size("result", text, 2 * MOST)  # a quotation mark or a backslash is two characters
    try:
        found = json.loads(text[len(JSON_DATA) :]) if text.startswith(JSON_DATA) else None
    except (ValueError, RecursionError):
        found = None
    if type(found) is not list or [type(part) for part in found] != [str, str] or not found[0].isascii():
        raise Refused("The result is not signed: it has not the two texts of a signed result; see the endpoint's log")
    return found[0].encode("ascii"), found[1]


def claimed(statement: bytes, manager: str, task: str) -> Result:
    """Return the result of a task, as anybody may have made it: the signature isn't verified.

    Args:
        statement: the result's statement.
        manager: the uuid of the manager endpoint that got the task.
        task: the SHA-256 of the task's statement.

    Raises:
        Refused: it isn't a result, or it is of another task or endpoint.
    """
    result = _read(statement)
    if (result.manager, result.task) != (manager, task):
        raise Refused("The result is another task's: somebody has put it in place of this task's; report it")
    return result


def verify(statement: bytes, signature: str, public: str, manager: str, task: str) -> Result:
    """Return the result of a task.

    Args:
        statement: the result's statement. It is looked into only after its signature was found good.
        signature: the account's.
        public: the public half of the account's key, in hexadecimal digits.
        manager: the uuid of the manager endpoint that got the task.
        task: the SHA-256 of the task's statement.

    Raises:
        Refused: the account's key hasn't signed it, or it is of another task or endpoint.
    """
    check_size("result", statement, MOST)
    dsse.verify("result", public, TYPE, statement, signature)
    return claimed(statement, manager, task)


def _read(statement: bytes) -> Result:
    return Result(**decode("result", statement, MOST, _FORMS))
