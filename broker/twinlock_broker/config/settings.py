"""The broker's own settings: the command line's, else --config's, else the defaults."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_common.site_files import load_yaml, read_file

from twinlock_broker.config.keys import BROKER_KEYS, read_keys
from twinlock_broker.errors import Fatal


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are. `program` is a key of the spawner's [programs]."""

    endpoint_dir: Path
    spawner_socket: Path
    state: Path
    runtime: Path
    program: str
    metrics: str | None
    allow_groups: tuple[str, ...]

    @property
    def control_socket(self) -> Path:
        """Where user endpoints connect to."""
        return self.runtime / "control.sock"

    @property
    def admin_socket(self) -> Path:
        """Where the administrator's commands connect to."""
        return self.runtime / "admin.sock"


def settle(config: Path | None, chosen: dict[str, Any]) -> Settings:
    """The settings; `chosen` are the command line's, None where not given. Raises `Fatal` (64, 66, 78)."""
    values = _read(config) | {name: value for name, value in chosen.items() if value is not None}
    endpoint_dir = values["endpoint_dir"]
    if endpoint_dir is None:
        raise Fatal(os.EX_USAGE, "which endpoint? Give --endpoint-dir DIR, or endpoint_dir in --config FILE")
    state = Path(values["state_dir"] or _given_by_systemd("STATE_DIRECTORY") or endpoint_dir)
    runtime = Path(values["runtime_dir"] or _given_by_systemd("RUNTIME_DIRECTORY") or state)
    socket = values["spawner_socket"]
    rest = {name: values[name] for name in ("program", "metrics", "allow_groups")}
    return Settings(endpoint_dir.absolute(), socket, state, runtime.absolute(), **rest)


def _given_by_systemd(name: str) -> str:
    """The first folder in a variable of systemd.exec(5), which lists several with colons."""
    return os.environ.get(name, "").split(":")[0]


def _read(config: Path | None) -> dict[str, Any]:
    if config is None:
        return read_keys(BROKER_KEYS, {}, "")
    try:
        found = load_yaml(read_file(config)) or {}
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"{config}: {error.strerror}") from error
    except ValueError as error:
        raise Fatal(os.EX_CONFIG, f"{config}: not valid YAML: {error}") from error
    if not isinstance(found, dict):
        raise Fatal(os.EX_CONFIG, f"{config}: has to be a YAML mapping of keys to values")
    return read_keys(BROKER_KEYS, found, str(config))
