"""The modules that run where a task runs, and what the endpoint itself needs of them: messages, texts, versions.

Nodes get the modules that a task needs from here and from `htex/node`, see `htex/bundle.py`. So these import nothing
else but the standard library and globus-compute-sdk.
"""

from importlib import import_module
from typing import Any


def __getattr__(name: str) -> Any:
    """Load `execute_task`, which tasks name as this package's, when a worker asks for it.

    Hosts and nodes may have different releases, which all know it by this name. It isn't imported before, since the
    endpoint uses the other modules without globus-compute-sdk.
    """
    if name != "execute_task":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.execute").execute_task
