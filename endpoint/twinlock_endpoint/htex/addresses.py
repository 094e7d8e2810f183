"""The addresses under which workers may reach this host, found without a service outside.

Parsl's own search asks a web service for the public address, and waits 30 s if the network has no way out.
"""

import contextlib
import socket

import psutil

from twinlock_endpoint.errors import ConfigError

LOOPBACK = "127.0.0.1"


def local_addresses() -> set[str]:
    """Return the IPv4 addresses of all interfaces and of the host's name.

    Workers try them all and keep one that answers.
    """
    found = {
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family is socket.AF_INET
    }
    with contextlib.suppress(OSError):
        found.add(socket.gethostbyname(socket.gethostname()))
    return found


def require_own(address: str) -> None:
    """Raise `ConfigError` unless this host can listen at `address`, an IP address or a name."""
    try:
        family, kind, protocol, _, found = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.bind(found)
    except OSError as error:
        own = ", ".join(sorted(local_addresses()))
        raise ConfigError(
            f"The engine has 'address': {address!r}, where this host can't listen ({error.strerror}). It has: {own}. "
            "Without an address, workers try all of these."
        ) from None
