"""Environment variables that are set anew for each task.

setenv(3), which os.environ calls, keeps each value that it was ever given: a hundred bytes a task, for as long as the
worker lives. What putenv(3) is given becomes a part of the environment itself, and can be written to.
"""

import ctypes
import os

_ROOM = 512  # bytes at least, so that the next task's value finds room too
_libc = ctypes.CDLL(None)
_memory: dict[str, "ctypes.Array[ctypes.c_char]"] = {}


def put(name: str, value: str) -> None:
    """Set a variable for Python and for what Python starts. Raise `ValueError` if the value has a null character."""
    if "\0" in value:
        raise ValueError(f"{name} can't contain a null character")
    text = os.fsencode(f"{name}={value}")
    memory = _memory.get(name)
    if memory is None or len(memory) <= len(text):
        memory = ctypes.create_string_buffer(max(_ROOM, 2 * len(text)))
    memory.value = text
    _libc.putenv(memory)  # each time: the last task may have changed it in any way
    _memory[name] = memory  # only now may the former one go
    # The public way, os.environ[...] = ..., calls setenv(3).
    os.environ._data[os.fsencode(name)] = os.fsencode(value)  # type: ignore[attr-defined]  # noqa: SLF001
