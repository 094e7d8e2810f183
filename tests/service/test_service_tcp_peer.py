"""Who is at the other end of a TCP connection: an account of this machine, or an address."""

import asyncio
import os
import socket
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest
from twinlock_service.limits.tcp_peer import tcp_peer

LIMIT = 60.0
"""Seconds for anything."""

NOBODY = 65534


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_a_peer_on_this_machine_is_an_account(address: str) -> None:
    peers: asyncio.Queue[str] = asyncio.Queue()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peers.put(tcp_peer(writer.transport))
        writer.close()

    listening = await asyncio.start_server(note, address, 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        for uid in {os.geteuid(), NOBODY if os.geteuid() == 0 else os.geteuid()}:
            pid = connect_as(uid, address, port)
            assert await asyncio.wait_for(peers.get(), LIMIT) == f"uid {uid}"
            await asyncio.to_thread(os.waitpid, pid, 0)


async def test_a_peer_on_this_machine_is_an_account_by_whatever_address() -> None:
    peers: asyncio.Queue[str] = asyncio.Queue()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peers.put(tcp_peer(writer.transport))
        writer.close()

    both = socket.has_dualstack_ipv6()
    any_address = ("::", 0) if both else ("0.0.0.0", 0)
    family = socket.AF_INET6 if both else socket.AF_INET
    server = socket.create_server(any_address, family=family, dualstack_ipv6=both)
    listening = await asyncio.start_server(note, sock=server)
    addresses = {
        each.address for one in psutil.net_if_addrs().values() for each in one if each.family == socket.AF_INET
    }
    async with listening:
        for address in addresses:
            reader, writer = await asyncio.open_connection(address, listening.sockets[0].getsockname()[1])
            assert await asyncio.wait_for(peers.get(), LIMIT) == f"uid {os.geteuid()}", address
            await reader.read()
            writer.close()


class Elsewhere:
    """A connection from another machine."""

    def __init__(self, remote: str, port: int = 40_000) -> None:
        self._remote = remote
        self._port = port

    def get_extra_info(self, name: str) -> Any:
        """What asyncio knows of it."""
        inet = socket.AF_INET6 if ":" in self._remote else socket.AF_INET
        own = "2001:db8:9::1" if ":" in self._remote else "192.0.2.1"
        known = {
            "peername": (self._remote, self._port),
            "sockname": (own, 443),
            "socket": SimpleNamespace(family=inet),
        }
        return known[name]


@pytest.mark.parametrize(
    ("remote", "peer"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_a_peer_elsewhere_is_an_address_or_a_network(remote: str, peer: str) -> None:
    assert tcp_peer(cast(asyncio.BaseTransport, Elsewhere(remote))) == peer


@pytest.mark.parametrize(
    ("remote", "everywhere", "peer"),
    [
        ("192.0.2.7", "0.0.0.0", "192.0.2.7"),
        ("192.0.2.7", "::", "192.0.2.7"),
        ("2001:db8:1:2::1", "::", "2001:db8:1:2::/64"),
    ],
)
def test_a_port_that_somebody_here_listens_on_makes_no_account_of_a_peer_elsewhere(
    remote: str, everywhere: str, peer: str
) -> None:
    family = socket.AF_INET6 if ":" in everywhere else socket.AF_INET
    with socket.create_server((everywhere, 0), family=family, dualstack_ipv6=family == socket.AF_INET6) as listening:
        elsewhere = Elsewhere(remote, listening.getsockname()[1])
        assert tcp_peer(cast(asyncio.BaseTransport, elsewhere)) == peer


async def test_a_peer_that_has_closed_its_end_is_not_root() -> None:
    """The kernel says uid 0 of a socket that no process has open."""
    peers: asyncio.Queue[str] = asyncio.Queue()

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await peers.put(tcp_peer(writer.transport))
        writer.close()

    async with await asyncio.start_server(note, "127.0.0.1", 0) as listening:
        # The loop, whose thread this is, accepts it when it is closed already.
        socket.create_connection(listening.sockets[0].getsockname(), LIMIT).close()
        assert await asyncio.wait_for(peers.get(), LIMIT) == "127.0.0.1"


def connect_as(uid: int, address: str, port: int) -> int:
    """A process of an account that connects, and stays until the other end closes; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            os.setuid(uid)
            with socket.create_connection((address, port), LIMIT) as connection:
                connection.recv(1)
        finally:
            os._exit(0)
    return pid
