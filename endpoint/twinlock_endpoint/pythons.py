"""The Python versions of the user and of the workers: a function made by one may crash the other."""

import os
import platform
from typing import Any


def mismatch(figures: dict[str, Any]) -> str:
    """A sentence that names both versions, where they differ in more than the last number; else empty.

    The user's is what the service says of the SDK that submitted; the workers' stand in the engine's figures, and where
    those don't tell, they are this process's.
    """
    users = os.environ.get("GC_USER_PYTHON_VERSION", "")
    nodes = [node for of_job in figures.get("node_info", {}).values() for node in of_job]
    workers = sorted({str(node.get("python_version")) for node in nodes} or {platform.python_version()})
    if not users or all(_minor(worker) == _minor(users) for worker in workers):
        return ""
    return (
        f"The function comes from Python {users}, and the workers have Python {', '.join(workers)}: one that was "
        "serialized as bytecode can crash another version. Use the workers' version, or have the SDK send source code"
    )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
