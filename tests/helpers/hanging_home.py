"""File systems that don't answer, as a dead NFS server doesn't: FUSE."""

import contextlib
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

# Of linux/fuse.h: struct fuse_in_header, fuse_out_header and fuse_init_out; FUSE_INIT and the protocol's version.
_IN = struct.Struct("IIQQIIIHH")
_OUT = struct.Struct("IiQ")
_INIT_OUT = struct.Struct("IIIIHHIIHHI7I")
_INIT = 26
_VERSION = (7, 31)
_LARGEST_REQUEST = 1 << 20


@contextlib.contextmanager
def home_that_hangs(home: Path) -> Iterator[int]:
    """A file system with nobody at its other end, the descriptor. Who waits for an answer can still be killed."""
    device = os.open("/dev/fuse", os.O_RDWR)
    os.set_inheritable(device, True)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    argv: list[str | Path] = ["mount", "-i", "-t", "fuse", "-o", options, "nobody-there", home]
    subprocess.run(argv, check=True, timeout=60, pass_fds=[device])
    try:
        yield device
    finally:
        os.close(device)  # whoever waits for an answer gets an error now
        subprocess.run(["umount", "--lazy", home], check=True, timeout=60)


def answer_init(device: int) -> None:
    """Have the file system begin; all that it is asked from then on waits for an answer."""
    _, _, unique, *_ = _IN.unpack_from(os.read(device, _LARGEST_REQUEST))
    content = _INIT_OUT.pack(*_VERSION, 0, 0, 0, 0, 4096, 0, 0, 0, 0, *[0] * 7)
    os.write(device, _OUT.pack(_OUT.size + len(content), 0, unique) + content)


def take_request(device: int) -> None:
    """Take a request and never answer it. Who waits for that can't be killed: fuse.ko sees it through."""
    os.read(device, _LARGEST_REQUEST)
