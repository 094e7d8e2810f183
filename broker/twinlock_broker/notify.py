"""systemd's readiness protocol (sd_notify(3)): one datagram to the socket in NOTIFY_SOCKET."""

import os
import socket


def notify(state: str) -> None:
    """Tell systemd `state`, such as ``READY=1``. Does nothing where nobody asked; never fails the caller."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)
    except OSError:  # readiness is a courtesy; systemd's start time limit is what tells of its absence
        return
