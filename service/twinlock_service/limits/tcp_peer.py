"""Who is at the other end of a TCP connection: an address, or on this machine an account."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import struct

# linux/inet_diag.h and linux/sock_diag.h; struct nlmsghdr is that of netlink(7).
_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLM_F_REQUEST = 1
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI2s2s16s16sI8s")
# struct inet_diag_msg from the far port on: port, addresses to cookie, expires to wqueue, uid, inode.
_ANSWER = struct.Struct("=2s44x12xII")
_ANSWER_OFFSET = _HEADER.size + 6
_ANY_COOKIE = b"\xff" * 8


def tcp_peer(transport: asyncio.BaseTransport) -> str:
    """Return the account behind a connection that comes from this machine, or the address that it comes from."""
    remote, local = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
    if not remote or not local:
        return "unknown"
    try:
        return f"uid {_owner(transport.get_extra_info('socket').family, remote, local)}"
    except (OSError, struct.error):
        return _origin(str(remote[0]))


def _origin(remote: str) -> str:
    """Return an IPv4 address, or the /64 network of an IPv6 address: whoever has one address there can have all."""
    address = ipaddress.ip_address(remote.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


def _owner(family: int, remote: tuple[str, int], local: tuple[str, int]) -> int:
    """Return the uid of the socket at the other end, on this machine, as the kernel tells it; see sock_diag(7).

    Raise `OSError` if there is no such socket on this machine, or nobody has it open any more.
    """
    ends = [_packed(family, *end[:2]) for end in (remote, local)]
    (address, port), (to_address, to_port) = ends
    every_state = 0xFFFFFFFF
    request = _REQUEST.pack(
        family, socket.IPPROTO_TCP, 0, every_state, port, to_port, address, to_address, 0, _ANY_COOKIE
    )
    header = _HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_SOCK_DIAG) as kernel:
        kernel.send(header + request)
        answer = kernel.recv(4096, socket.MSG_DONTWAIT)
    if struct.unpack_from("=H", answer, 4)[0] != _SOCK_DIAG_BY_FAMILY:
        raise OSError("the kernel knows no such connection")
    far_port, uid, inode = _ANSWER.unpack_from(answer, _ANSWER_OFFSET)
    # Where it knows no such connection, the kernel describes who listens on `port`; that socket has no far end. Of a
    # socket that is closed it says uid 0.
    if far_port != to_port or inode == 0:
        raise OSError("nobody on this machine has the other end open")
    return int(uid)


def _packed(family: int, address: str, port: int) -> tuple[bytes, bytes]:
    return socket.inet_pton(family, address.partition("%")[0]).ljust(16, b"\0"), struct.pack("!H", port)
