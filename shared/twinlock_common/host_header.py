"""The host name that an HTTP request is for (RFC 9110, 7.2), which keeps foreign pages from this machine's services."""

from collections.abc import Sequence
from urllib.parse import urlsplit


def host_name(headers: Sequence[str]) -> str | None:
    """Return the host in a request's Host header, without the port and as names are compared.

    Return None if there is no header, more than one, or one that isn't valid.
    """
    if len(headers) != 1:
        return None
    try:
        parts = urlsplit(f"//{headers[0]}")
        parts.port  # noqa: B018  # raises where it is no port
    except ValueError:
        return None
    if parts.netloc != headers[0] or parts.username is not None or not parts.hostname:
        return None
    return parts.hostname.rstrip(".")
