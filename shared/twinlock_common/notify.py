"""systemd's notification protocol (sd_notify(3)): datagrams to the socket in NOTIFY_SOCKET."""

import asyncio
import os
import socket
from collections.abc import Callable

PERIOD = 30.0
"""Seconds between two STATUS texts if systemd asks for no watchdog."""


async def tell_systemd(status: Callable[[], str]) -> None:
    """Tell systemd the status, and that the loop runs, twice in its watchdog's time and without end.

    A loop that hangs can't do so, and systemd restarts the service (WatchdogSec= in its unit).
    """
    limit = _watchdog()
    while True:
        notify(f"STATUS={status()}\nWATCHDOG=1" if limit else f"STATUS={status()}")
        await asyncio.sleep(limit / 2 if limit else PERIOD)


def _watchdog() -> float:
    """Return the seconds within which systemd wants to hear from this process (sd_watchdog_enabled(3)); else 0."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    usec = os.environ.get("WATCHDOG_USEC", "")
    return int(usec) / 1e6 if usec.isascii() and usec.isdigit() else 0.0


def notify(state: str) -> None:
    """Tell systemd `state`, such as ``READY=1``. Do nothing if systemd didn't ask; never fail the caller."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.sendto(state.encode(), address)
    except OSError:  # systemd's time limit for the start reports it if it never hears that this is ready
        return
