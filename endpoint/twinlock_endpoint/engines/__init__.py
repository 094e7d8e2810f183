"""The engines by the name that a configuration gives them."""

from importlib import import_module
from typing import Any

from twinlock_common.keys import nearest

from twinlock_endpoint.engines.base import Engine
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.htex import lazy_imports
from twinlock_endpoint.htex.compat import check
from twinlock_endpoint.zygote.client import Zygote

# Module and class, imported only when a configuration asks for it.
ENGINES = {
    "GlobusComputeEngine": "twinlock_endpoint.engines.globus_compute",
    "GlobusMPIEngine": "twinlock_endpoint.engines.globus_mpi",
    "ProcessPoolEngine": "twinlock_endpoint.engines.pools",
    "ThreadPoolEngine": "twinlock_endpoint.engines.pools",
}
_ON_PARSL = ("GlobusComputeEngine", "GlobusMPIEngine")
# What the agent's first releases called theirs.
_OLD = ("HighThroughputEngine", "HighThroughputExecutor")


def build(description: dict[str, Any]) -> Engine:
    """Return the engine that `engine:` of a configuration describes. Raise `ConfigError` with what is wrong with it."""
    arguments = {name: value for name, value in description.items() if value is not None}
    kind = arguments.pop("type", None)
    if kind is None:
        raise ConfigError(f"The engine has no 'type'; known are: {', '.join(ENGINES)}")
    if not isinstance(kind, str):
        raise ConfigError(f"The engine type {kind!r} is not a name; known are: {', '.join(ENGINES)}")
    if kind in _OLD:
        raise ConfigError(f"There is no {kind} any more; GlobusComputeEngine has its place, with the same arguments.")
    if kind not in ENGINES:
        raise ConfigError(f"The engine type {kind!r} is unknown; {nearest(kind, ENGINES)}")
    engine: Engine = getattr(_module(kind), kind).from_config(arguments)
    return engine


def fork_zygote() -> Zygote:
    """Return the zygote of an engine on Parsl before there is an engine: it is forked before a second thread begins."""
    zygote: Zygote = _module(_ON_PARSL[0]).fork_zygote()
    return zygote


def _module(kind: str) -> Any:
    lazy_imports.sdk()
    with lazy_imports.parsl():
        if kind in _ON_PARSL:
            check.require()
        return import_module(ENGINES[kind])
