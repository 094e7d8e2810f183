"""The Python versions of the user and of the workers: a function made by one may crash the other."""

import os
import platform
from collections.abc import Sequence
from typing import Any


def users() -> str:
    """Return the version of the SDK's Python that submitted, as the service says it; empty if it doesn't."""
    return os.environ.get("GC_USER_PYTHON_VERSION", "")


def mismatch(figures: dict[str, Any]) -> str:
    """Return a sentence that names the user's version and the workers', if they differ; else an empty text.

    The workers' versions stand in the engine's figures; if those don't tell, they are this process's.
    """
    nodes = [node for of_job in figures.get("node_info", {}).values() for node in of_job]
    workers = sorted({str(node.get("python_version")) for node in nodes} or {platform.python_version()})
    return sentence(users(), workers)


def sentence(users_python: str, workers: Sequence[str]) -> str:
    """Return what is said about these versions.

    It is empty if all have the same first two numbers, or the user's isn't known.
    """
    if not users_python or all(_minor(worker) == _minor(users_python) for worker in workers):
        return ""
    return (
        f"The function comes from Python {users_python}, and the workers have Python {', '.join(workers)}: one that "
        "was serialized as bytecode can fail in any way, or crash, in another version. Use the workers' version, or "
        "have the SDK send source code"
    )


def _minor(version: str) -> list[str]:
    return version.split(".")[:2]
