"""Parsl's providers, launchers and addresses by the name that a configuration gives them."""

import inspect
import math
from collections.abc import Callable, Collection
from importlib import import_module
from types import ModuleType
from typing import Any

import parsl.addresses
import parsl.launchers
import parsl.providers
from parsl.launchers.base import Launcher
from parsl.providers.base import ExecutionProvider
from twinlock_common.keys import nearest

from twinlock_endpoint.config.construct import construct
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.htex.providers import scheduler

_OURS = {
    "CondorProvider": "twinlock_endpoint.htex.providers.condor",
    "GridEngineProvider": "twinlock_endpoint.htex.providers.grid_engine",
    "LSFProvider": "twinlock_endpoint.htex.providers.lsf",
    "LocalProvider": "twinlock_endpoint.htex.providers.local",
    "PBSProProvider": "twinlock_endpoint.htex.providers.pbs",
    "SlurmProvider": "twinlock_endpoint.htex.providers.slurm",
    "TorqueProvider": "twinlock_endpoint.htex.providers.pbs",
}
"""Parsl's providers that are replaced by one of ours."""

_LEAST = {
    "cmd_timeout": 1,
    "init_blocks": 0,
    "max_blocks": 0,
    "min_blocks": 0,
    "nodes_per_block": 1,
    "parallelism": 0,
}
"""The least value of arguments that a provider may have."""

PROVIDERS: Collection[str] = parsl.providers.__all__
LAUNCHERS: Collection[str] = parsl.launchers.__all__
"""The names of all launchers of Parsl; some stand twice."""

GONE = ("AdHocProvider", "CobaltProvider")
"""Providers from older templates that Parsl has no more."""


def provider(description: Any) -> ExecutionProvider:
    """Return the provider that `provider:` describes, with its launcher."""
    if isinstance(description, dict) and description.get("launcher") is not None:
        launcher: Launcher = _typed("launcher", parsl.launchers, LAUNCHERS, description["launcher"])
        description = {**description, "launcher": launcher}
    scheduler.use_time_limits()
    made: ExecutionProvider = _typed("provider", parsl.providers, PROVIDERS, description)
    _require_usable(made)
    return made


def _require_usable(provider: ExecutionProvider) -> None:
    """Raise `ConfigError` for numbers with which Parsl's strategies would fail each time.

    They would do so in a thread that nobody sees.
    """
    for name, least in _LEAST.items():
        value = getattr(provider, name, least)
        if isinstance(value, int | float) and not least <= value < math.inf:
            raise ConfigError(
                f"{type(provider).__name__} has {name!r}: {value!r}; it has to be a number from {least} on."
            )


def address(description: Any) -> str:
    """Return the address that `address:` gives as text, or describes as one of Parsl's ways to find it."""
    if isinstance(description, str):
        return description
    # The module has no __all__; of its functions these return one address.
    functions = [name for name, _ in inspect.getmembers(parsl.addresses, inspect.isfunction)]
    known = [name for name in functions if name.startswith("address_by_") or name == "get_any_address"]
    return str(_typed("address", parsl.addresses, known, description))


def _typed(kind: str, module: ModuleType, known: Collection[str], description: Any) -> Any:
    """Return what a mapping with a `type` describes.

    Only what is asked for is taken from the module: Parsl's providers need much that others don't.
    """
    if not isinstance(description, dict) or "type" not in description:
        raise ConfigError(f"The {kind} has to be a mapping with a 'type', one of: {', '.join(sorted(set(known)))}")
    arguments = {name: value for name, value in description.items() if value is not None and name != "type"}
    name = description["type"]
    if name in GONE:
        raise ConfigError(f"Parsl has no {name} any more; name the provider of the site's scheduler of today")
    if name not in known:
        raise ConfigError(f"The {kind} type {name!r} is unknown; {nearest(str(name), known)}")
    made: Callable[..., Any] = getattr(import_module(_OURS[name]) if name in _OURS else module, name)
    return construct(name, made, arguments)
