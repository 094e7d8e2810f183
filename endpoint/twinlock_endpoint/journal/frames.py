"""The format of the journal's files: a header that names the version, then frames.

A frame has a mark, a length, a checksum and a payload. A file may end in the middle of one, when the host or the
process died; and a disk may give back other bytes than it got. So whatever isn't a frame is skipped up to the next one
that is.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

VERSION = 1

_NAME = b"twinlock-journal "
HEADER = b"%s%03d\n" % (_NAME, VERSION)

_MARK = b"\xd5\x4a"
_HEAD = struct.Struct(">2sII")
HEAD_LENGTH = _HEAD.size


@dataclass(frozen=True, slots=True)
class Found:
    """A frame, or what was skipped up to the next one."""

    offset: int
    """Where it begins in the file, in bytes."""
    length: int
    """In bytes, the head of a frame included."""
    payload: bytes | None
    """None where there is no sound frame."""


def parts(payload: bytes) -> tuple[bytes, bytes]:
    """Return the two parts of a frame: what goes before the payload, and the payload."""
    return _HEAD.pack(_MARK, len(payload), zlib.crc32(payload)), payload


def version(data: bytes) -> int | None:
    """Return the version that a file names; None if it isn't a journal's, or was cut off before its first frame."""
    number = data[len(_NAME) : len(HEADER) - 1]
    if not data.startswith(_NAME) or len(data) < len(HEADER) or not number.isdigit():
        return None
    return int(number)


def payload(data: bytes, offset: int) -> bytes | None:
    """Return the payload of the frame at `offset`; None if there is no sound one."""
    if len(data) - offset < HEAD_LENGTH:
        return None
    mark, length, checksum = _HEAD.unpack_from(data, offset)
    found = data[offset + HEAD_LENGTH : offset + HEAD_LENGTH + length]
    sound = mark == _MARK and len(found) == length and zlib.crc32(found) == checksum
    return found if sound else None


def frames(data: bytes) -> Iterator[Found]:
    """Yield all frames after the header, and what lies between them."""
    offset = len(HEADER)
    while offset < len(data):
        sound = payload(data, offset)
        length = _next(data, offset + 1) - offset if sound is None else HEAD_LENGTH + len(sound)
        yield Found(offset, length, sound)
        offset += length


def _next(data: bytes, offset: int) -> int:
    """Return where the next sound frame begins, at the earliest at `offset`; the end of the data if there is none."""
    while (offset := data.find(_MARK, offset)) != -1:
        if payload(data, offset) is not None:
            return offset
        offset += 1
    return len(data)
