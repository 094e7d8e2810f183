"""Whether a task brought bytecode of another Python version: that fails in any way, long after it was loaded.

The serializers and what they write are globus-compute-sdk's; functions go as bytecode unless the user chooses another.
"""

import base64
import platform

from globus_compute_sdk.serialize import ComputeSerializer

from twinlock_endpoint.worker import python_versions
from twinlock_endpoint.worker.messages import unpack

_DILL = ("00", "01", "02")
_OLD_COMBINATION = "10"
_COMBINATIONS = ("12", "13")
_CODE_MAKER = b"_create_code"  # what dill calls to make a function's code from its parts


def explain(body: bytes, users_python: str) -> str:
    """Return a sentence with the user's version and this one if the packed task has bytecode of another; else empty."""
    sentence = python_versions.sentence(users_python, [platform.python_version()])
    try:
        return sentence if sentence and _has_bytecode(body) else ""
    except Exception:  # no task in a known form; what is wrong with that is told without
        return ""


def _has_bytecode(body: bytes) -> bool:
    buffers = ComputeSerializer.unpack_buffers(unpack(body, "task")["task_buffer"])
    return any(_is_bytecode(buffer) for buffer in buffers)


def _is_bytecode(buffer: str) -> bool:
    """Return whether a part of a task is bytecode. Of a combination the first part counts, since it is tried first."""
    identifier, _, payload = buffer.partition("\n")
    if identifier in _COMBINATIONS:
        return _is_bytecode(ComputeSerializer.unpack_buffers(payload)[0])
    if identifier == _OLD_COMBINATION:
        return _is_bytecode("".join(payload.split(":")[:2]))
    return identifier in _DILL and _CODE_MAKER in base64.b64decode(payload)
