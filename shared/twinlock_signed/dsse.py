"""Ed25519 signatures over a statement and its type, so that a statement of one type is never taken for another.

The bytes that are signed are DSSE's "pre-authentication encoding" (DSSE protocol, version 1.0.0).
"""

import re

from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey

from twinlock_signed.errors import Refused

_SIGNATURE = re.compile("[0-9a-f]{128}")


def pae(payload_type: str, body: bytes) -> bytes:
    """Return what is signed for a body of this type."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(body), body)


def sign(key: SigningKey, payload_type: str, body: bytes) -> str:
    """Return the signature, in hexadecimal digits."""
    return key.sign(pae(payload_type, body)).signature.hex()


def verify(what: str, public: str, payload_type: str, body: bytes, signature: str) -> None:
    """Raise `Refused` unless the owner of the key has signed a body of this type.

    Args:
        what: the statement's name, for errors.
        public: the public half of the key, in hexadecimal digits.
        payload_type: the type that the statement has to have.
        body: the statement.
        signature: as `sign` returns it.
    """
    if not _SIGNATURE.fullmatch(signature):
        raise Refused(f"The signature of the {what} is not 128 hexadecimal digits; use a current version of Twinlock")
    try:
        VerifyKey(bytes.fromhex(public)).verify(pae(payload_type, body), bytes.fromhex(signature))
    except BadSignatureError:
        raise Refused(
            f"The signature of the {what} is wrong: it was made with another key, or the {what} was changed on its way;"
            " submit the task again, and report it if that doesn't help"
        ) from None
    except ValueError:
        raise Refused(f"The key for the {what} is not the public half of an Ed25519 key; make a new one") from None


def public_half(key: SigningKey) -> str:
    """Return the public half of a key, in hexadecimal digits."""
    return bytes(key.verify_key).hex()
