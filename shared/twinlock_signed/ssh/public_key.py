"""Public keys as lines of text, of the types that can sign: the type, the bytes in base64, and perhaps a comment."""

import base64
import binascii
import re

TYPES = (
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
)
"""Neither DSA nor certificates: a certificate among signers would count beyond its end."""

_LINE = re.compile(rf"({'|'.join(map(re.escape, TYPES))})[ \t]+([A-Za-z0-9+/]+=*)([ \t].*)?")


def read(line: str) -> str | None:
    """Return the key's type and bytes, without the comment; None if the line isn't such a key."""
    found = _LINE.fullmatch(line)
    if found is None:
        return None
    kind, text = found[1], found[2]
    try:
        blob = base64.b64decode(text, validate=True)
    except binascii.Error:
        return None
    is_of_its_type = blob.startswith(len(kind).to_bytes(4, "big") + kind.encode())
    return f"{kind} {text}" if is_of_its_type else None
