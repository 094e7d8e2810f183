"""The addresses under which workers may reach this host, found without asking anybody outside.

Parsl's own search asks a web service for the public address, and waits 30 s where there is no way out.
"""

import contextlib
import socket

import psutil

LOOPBACK = "127.0.0.1"


def local_addresses() -> set[str]:
    """The IPv4 addresses of all interfaces and of the host's name; workers try them all and keep one that answers."""
    found = {
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family is socket.AF_INET
    }
    with contextlib.suppress(OSError):
        found.add(socket.gethostbyname(socket.gethostname()))
    return found
