"""The credentials in a command that can't be read as a whole, so that its user can be told nevertheless."""

import json

from twinlock_broker.compute.command import Credentials, read_credentials

_KEY = b'"amqp_creds"'
_LONGEST = 1 << 16
"""Bytes of the credentials; the service's are about 2 KiB."""


def credentials(body: bytes, port: int | None) -> Credentials | None:
    """Return the credentials in a message that is too large or broken; None if they can't be told for sure.

    The service writes the key `amqp_creds` once, and not behind a backslash, as it is inside of a text. Options of a
    user may have the same key, though, and would name queues of that user's choice: so if there are two, neither
    counts. `port` as for `read_credentials`.
    """
    if body.count(_KEY) != 1:
        return None
    start = body.index(_KEY) + len(_KEY)
    text = body[start : start + _LONGEST].decode(errors="replace").lstrip()
    try:
        found, _ = json.JSONDecoder().raw_decode(text.removeprefix(":").lstrip())
        return read_credentials(found, port)
    except (ValueError, RecursionError):
        return None
