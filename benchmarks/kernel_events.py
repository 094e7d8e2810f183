"""When processes fork, change their identity and execute, by the kernel's own clock: the process events connector.

Kernel: include/uapi/linux/cn_proc.h, Documentation/driver-api/connector.rst. It takes root and CONFIG_PROC_EVENTS.
"""

import os
import socket
import struct

_NETLINK_CONNECTOR = 11
_RCVBUFFORCE = 33  # asm-generic/socket.h: a receive buffer of any size, so that no event is lost
_PROC, _LISTEN = 1, 1  # CN_IDX_PROC and CN_VAL_PROC; PROC_CN_MCAST_LISTEN
_HEADERS = struct.Struct("=IHHII IIIIHH")  # nlmsghdr, cn_msg
_EVENT = struct.Struct("=IIQII II")  # what, cpu, time in ns, process, its group; for a fork the child and its group
_FORK = 0x1
_NAMES = {0x2: "exec", 0x4: "uid", 0x40: "gid", 0x80: "session"}


class Events:
    """The events of this machine from now on. Raises `OSError` if the kernel doesn't report them."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        self._socket.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, 1 << 24)
        self._socket.bind((os.getpid(), _PROC))
        length = _HEADERS.size + 4
        header = _HEADERS.pack(length, 3, 0, 0, os.getpid(), _PROC, _PROC, 0, 0, 4, 0)
        self._socket.send(header + struct.pack("=I", _LISTEN))
        self._socket.setblocking(False)

    def of_child(self, parent: int) -> dict[str, int]:
        """Return the times (CLOCK_MONOTONIC, ns) of the last child that `parent` forked, and of its descendants."""
        times: dict[str, int] = {}
        family: set[int] = set()
        while data := self._next():
            what, _, now, process, _, child, _ = _EVENT.unpack_from(data, _HEADERS.size)
            if what == _FORK and process == parent:
                times, family = {"fork": now}, {child}
            elif what == _FORK and process in family:
                family.add(child)
            elif process in family and what in _NAMES:
                times.setdefault(_NAMES[what], now)
        return times

    def _next(self) -> bytes:
        try:
            return self._socket.recv(4096)
        except BlockingIOError:
            return b""
