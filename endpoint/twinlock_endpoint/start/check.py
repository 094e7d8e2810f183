"""`twinlock-endpoint [--verified FILE] --check`: what an endpoint would say to rendered configurations.

It is how `twinlock check` asks the endpoint's own loader, in the endpoint's own Python environment. Standard input is a
JSON object: `configs`, a list of texts; `environment`, the site's variables; `audited`, whether it is for a high
assurance endpoint. Standard output gets a line for each configuration, a JSON object: empty if it can be loaded,
else with `wrong`, the reason that a user would see, or with `skipped`, the reason why it isn't known.

With `--verified FILE` root's files have to be such that this account's endpoint could use them, and the variables are
those of root's.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twinlock_common.document import DocumentError

from twinlock_endpoint.config import configuration
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.start import environment, run, verified_config
from twinlock_endpoint.verified import site

_ELSEWHERE = ("AWSProvider", "AzureProvider", "GoogleCloudProvider", "KubernetesProvider")
"""Providers that contact their cloud, or make things there, as soon as they are made."""


def answer(verified: Path | None = None) -> int:
    """Answer for each configuration of standard input, and return the exit code.

    Args:
        verified: root's file for signed work, if the endpoints are in verified mode.

    Raises:
        DocumentError: standard input isn't what it has to be.
        ConfigError: Python can't start with the site's variables, or a file of root's can't be used.
    """
    if verified is not None:
        environment.isolate()
    raw = sys.stdin.buffer.read()
    asked = _read(raw)
    environment.enter(asked.get("environment", {}) if verified is None else _of_root(verified), raw)
    load = run.load if verified is None else verified_config.load
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        for text in asked["configs"]:
            print(json.dumps(_verdict(text, load, audited=asked["audited"])), file=answers, flush=True)
    return os.EX_OK


def _read(raw: bytes) -> dict[str, Any]:
    try:
        asked: dict[str, Any] = json.loads(raw)
        if isinstance(asked["configs"], list) and isinstance(asked["audited"], bool):
            return asked
    except (ValueError, KeyError, TypeError):
        pass
    raise DocumentError("The start document is not a list of configurations to check.")


def _of_root(file: Path) -> dict[str, str]:
    """Return the variables that root sets, if all of root's files can be used. Raise `ConfigError`."""
    here = site.load(file)
    here.read_template()
    here.read_schema()
    here.check_keys()
    return here.read_environment()


def _verdict(text: str, load: Callable[..., object], *, audited: bool) -> dict[str, str]:
    try:
        provider = _provider(configuration.load(text).engine)
        if provider in _ELSEWHERE:
            return {"skipped": f"{provider} contacts its cloud when it is made"}
        load(text, audited=audited)
    except ConfigError as error:
        return {"wrong": str(error)}
    except Exception as error:  # as at a start, where it would be the reason too
        return {"wrong": f"The endpoint failed unexpectedly ({type(error).__name__}: {error})."}
    return {}


def _provider(engine: dict[str, Any]) -> object:
    described = engine.get("provider")
    return described.get("type") if isinstance(described, dict) else None
