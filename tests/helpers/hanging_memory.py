"""Memory that never comes: it is mapped from a file of a FUSE whose server doesn't answer when it is read.

Who has the kernel copy from there waits for that with all locks that the kernel holds for it, and can't be killed.
"""

import contextlib
import os
import select
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

from hanging_home import home_that_hangs

# Of linux/fuse.h: struct fuse_in_header, fuse_out_header, fuse_init_out, fuse_attr, fuse_entry_out (without its
# attributes), fuse_attr_out (the same) and fuse_open_out; and numbers of enum fuse_opcode.
_IN = struct.Struct("IIQQIIIHH")
_OUT = struct.Struct("IiQ")
_INIT_OUT = struct.Struct("IIIIHHIIHHI7I")
_ATTR = struct.Struct("QQQQQQIIIIIIIIII")
_ENTRY_OUT = struct.Struct("QQQQII")
_ATTR_OUT = struct.Struct("QII")
_OPEN_OUT = struct.Struct("QIi")
_LOOKUP, _GETATTR, _OPEN, _READ, _INIT = 1, 3, 14, 15, 26
_VERSION = (7, 31)
_LARGEST_REQUEST = 1 << 20
_ROOT, _FILE = 1, 2
_SIZE = 4096

HOLD = """
import mmap, os, sys
file = os.open(sys.argv[-1], os.O_RDONLY)
os.write(1, mmap.mmap(file, 0, prot=mmap.PROT_READ))
"""
"""Code of a process that holds the pipe which is its stdout. Its last argument is the path of such a file."""


class HangingMemory:
    """The file `path`, whose server answers at `device`."""

    def __init__(self, device: int, path: Path) -> None:
        self.path = path
        self._device = device
        self._read, self._ended = threading.Event(), threading.Event()
        self._server = threading.Thread(target=self._serve)
        self._server.start()

    def wait_until_read(self) -> None:
        """Wait until somebody needs what is in the file."""
        assert self._read.wait(60)

    def end(self) -> None:
        """Have the server end; whoever waits for it goes on doing so until the device is closed."""
        self._ended.set()
        self._server.join()

    def _serve(self) -> None:
        """Answer all that comes before the first READ."""
        poll = select.poll()
        poll.register(self._device, select.POLLIN)
        while not (self._read.is_set() or self._ended.is_set()):
            if poll.poll(100):
                self._answer(os.read(self._device, _LARGEST_REQUEST))

    def _answer(self, request: bytes) -> None:
        _, opcode, unique, node, *_ = _IN.unpack_from(request)
        if opcode == _READ:
            self._read.set()
            return
        content = _content(opcode, node)
        if content is not None:
            os.write(self._device, _OUT.pack(_OUT.size + len(content), 0, unique) + content)


def _content(opcode: int, node: int) -> bytes | None:
    """What is said to a request; None for those to which nobody expects an answer."""
    if opcode == _INIT:
        return _INIT_OUT.pack(*_VERSION, 0, 0, 0, 0, 4096, 0, 0, 0, 0, *[0] * 7)
    if opcode == _LOOKUP:
        return _ENTRY_OUT.pack(_FILE, 0, 3600, 3600, 0, 0) + _attributes(_FILE)
    if opcode == _GETATTR:
        return _ATTR_OUT.pack(3600, 0, 0) + _attributes(node)
    return _OPEN_OUT.pack(0, 0, 0) if opcode == _OPEN else None


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == _ROOT else stat.S_IFREG | 0o644
    return _ATTR.pack(node, _SIZE, 1, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


@contextlib.contextmanager
def memory_that_hangs(folder: Path) -> Iterator[HangingMemory]:
    """Such a file in a file system at `folder`; with the block's end, whoever waits for it gets an error."""
    with home_that_hangs(folder) as device:
        memory = HangingMemory(device, folder / "memory")
        try:
            yield memory
        finally:
            memory.end()
