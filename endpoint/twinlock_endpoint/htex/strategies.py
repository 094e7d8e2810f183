"""How blocks are scaled: Parsl's strategies and the poller that applies them, by their keys in a configuration."""

import math
import threading
from typing import Any

from parsl.jobs.strategy import Strategy
from twinlock_common.keys import nearest

from twinlock_endpoint.errors import ConfigError

_DEFAULTS = {"strategy": "simple", "max_idletime": 120.0, "strategy_period": 5.0}
# Templates for the agent's first releases name the strategy by the class that it had then.
_OLD_NAMES = {"SimpleStrategy": "simple", "HtexAutoScaleStrategy": "htex_auto_scale", "NoneStrategy": "none"}


def poller_arguments(strategy: Any, more: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of Parsl's JobStatusPoller from `strategy` and `job_status_kwargs`; times are in seconds.

    `strategy` is a name, or a mapping of `type` and `max_idletime`. Raise `ConfigError` with what can't be used. The
    arguments are checked without making a poller, since that starts a thread as soon as it is made.
    """
    arguments = {**_DEFAULTS, **_strategy(strategy), **more}
    for name in arguments.keys() - _DEFAULTS.keys():
        raise ConfigError(f"The engine's 'job_status_kwargs' has no {name!r}; {nearest(str(name), _DEFAULTS)}")
    for name in ("max_idletime", "strategy_period"):
        value = arguments[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value) or value < 0:
            raise ConfigError(f"The engine has {name!r}: {value!r}, which is not a number of seconds.")
    period = arguments["strategy_period"]
    if not 0 < period <= threading.TIMEOUT_MAX:  # Parsl's poller would never rest, or end without a word
        raise ConfigError(f"The engine has 'strategy_period': {period!r}; it has to be more than 0, and finite.")
    arguments["strategy"] = _known(arguments["strategy"])
    return arguments


def _strategy(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        return {"strategy": given}
    arguments = {name: value for name, value in given.items() if value is not None}
    if "type" not in arguments:
        raise ConfigError("The engine's 'strategy' is a mapping without a 'type'.")
    arguments["strategy"] = arguments.pop("type")
    return arguments


def _known(strategy: Any) -> str:
    strategy = "none" if strategy is None else _OLD_NAMES.get(str(strategy), strategy)
    strategies = [name for name in Strategy(strategy="none", max_idletime=0).strategies if name]
    if strategy not in strategies:
        raise ConfigError(f"The strategy {strategy!r} is unknown; {nearest(str(strategy), strategies)}")
    return str(strategy)
