"""The canary's own file: its login, which nobody else may read, and what it submits and expects."""

import math
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import globus_sdk
from globus_sdk.authorizers import GlobusAuthorizer
from twinlock_common.keys import TEXT, Key, Kind, exactly
from twinlock_common.site_files import load_yaml, read_file

from twinlock_broker.compute.login import ClientLogin, Login
from twinlock_broker.config.keys import UUID, read_keys
from twinlock_broker.errors import Fatal
from twinlock_broker.secret import Secret


def _limit(value: Any) -> float:
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError
    return float(value)


_LIMIT = Kind("a number of seconds, more than 0", _limit)

CANARY_KEYS = (
    Key("client_id", UUID, None, "", "the client that submits: its id"),
    Key("client_secret", TEXT, None, "", "and its secret"),
    Key("token", TEXT, None, "", "instead of a client, the token of a user of the local Compute service"),
    Key("options", Kind("a mapping", exactly(dict)), {}, "", "the options for the template, as users give them"),
    Key("warning", _LIMIT, 30.0, "s", "a result that takes longer is a warning"),
    Key("critical", _LIMIT, 60.0, "s", "a result that takes longer isn't waited for"),
)
"""The canary's own file (`--config`)."""

_SECRETS = ("client_secret", "token")


@dataclass(frozen=True, slots=True)
class TokenLogin:
    """A user of the local Compute service."""

    token: Secret[str]

    @property
    def name(self) -> str:
        """What it is, for people."""
        return "a user of the local service"

    def authorizer(self, environment: str | None, scopes: list[globus_sdk.Scope]) -> GlobusAuthorizer:
        """Return an authorizer with the token, which lasts until it is revoked."""
        return globus_sdk.AccessTokenAuthorizer(self.token.reveal())


@dataclass(frozen=True, slots=True)
class Canary:
    """Who submits what, and how long that may take."""

    login: Login
    options: dict[str, Any]
    """The options for the manager endpoint's template."""
    warning: float
    """Seconds; a result that takes longer is a warning."""
    critical: float
    """Seconds; a result that takes longer isn't waited for."""


def load(path: Path, chosen: dict[str, Any]) -> Canary:
    """Return what the file says. `chosen` are the command line's values, which win.

    Raises:
        Fatal: 66, it can't be read; 77, others may read it, or it has no login; 78, a key is wrong.
    """
    values = _read(path) | chosen
    if values["warning"] > values["critical"]:
        text = f"warning ({values['warning']:g} s) has to be at most critical ({values['critical']:g} s)"
        raise Fatal(os.EX_CONFIG, f"{path}: {text}")
    return Canary(_login(path, values), values["options"], values["warning"], values["critical"])


def _read(path: Path) -> dict[str, Any]:
    try:
        mode = path.stat().st_mode
        found = load_yaml(read_file(path)) or {}
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"{path}: can't be read: {error.strerror}") from error
    except ValueError as error:
        raise Fatal(os.EX_CONFIG, f"{path}: not valid YAML; correct it") from error
    if stat.S_IMODE(mode) & (stat.S_IRWXG | stat.S_IRWXO):
        raise Fatal(os.EX_NOPERM, f"{path}: others may read the secret in it; chmod 600 {path}")
    if not isinstance(found, dict):
        raise Fatal(os.EX_CONFIG, f"{path}: has to be a YAML mapping of keys to values")
    for name in _SECRETS:
        if not isinstance(found.get(name, ""), str):
            raise Fatal(os.EX_CONFIG, f"{path}: {name} has to be a text; put it into quotes")
    return read_keys(CANARY_KEYS, found, str(path))


def _login(path: Path, values: dict[str, Any]) -> Login:
    if values["client_id"] and values["client_secret"]:
        return ClientLogin(values["client_id"], Secret(values["client_secret"]))
    if values["token"]:
        return TokenLogin(Secret(values["token"]))
    text = "no login: it needs client_id and client_secret, or with a local Compute service a token"
    raise Fatal(os.EX_NOPERM, f"{path}: {text}")
