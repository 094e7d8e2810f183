"""The broker's own settings: from the command line, else from the file of --config, else the defaults."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_broker.config.keys import BROKER_KEYS, read_keys
from twinlock_broker.config.yaml_file import read_mapping
from twinlock_broker.errors import Fatal


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are, and whom the broker serves."""

    endpoint_dir: Path
    """The endpoint folder."""
    spawner_socket: Path
    """The spawner's socket."""
    state: Path
    """The state folder."""
    runtime: Path
    """The folder of the broker's sockets."""
    program: str
    """The user endpoint's program: a key of [programs] in the spawner's policy."""
    metrics: str | None
    """Where metrics are served: HOST:PORT, or a socket's path; None if they aren't."""
    allow_groups: tuple[str, ...]
    """Local groups, of which an account has to be in one; empty if it needn't."""
    readers: tuple[str, ...]
    """Local accounts that may read everything on the readers' socket; without any there is no such socket."""
    mark_jobs: bool
    """Whether batch jobs name the person, the user endpoint and the manager endpoint."""

    @property
    def control_socket(self) -> Path:
        """The socket that user endpoints connect to."""
        return self.runtime / "control.sock"

    @property
    def admin_socket(self) -> Path:
        """The socket that the administrator's commands connect to."""
        return self.runtime / "admin.sock"

    @property
    def users_socket(self) -> Path:
        """The socket that `twinlock my` connects to."""
        return self.runtime / "users.sock"

    @property
    def readers_socket(self) -> Path:
        """The socket that `twinlock-console` connects to."""
        return self.runtime / "readers.sock"


def settle(config: Path | None, chosen: dict[str, Any]) -> Settings:
    """Return the settings. `chosen` are the command line's, None if not given. Raise `Fatal` (64, 66, 78)."""
    values = _read(config) | {name: value for name, value in chosen.items() if value is not None}
    endpoint_dir = values["endpoint_dir"]
    if endpoint_dir is None:
        raise Fatal(os.EX_USAGE, "which endpoint? Give --endpoint-dir DIR, or endpoint_dir in --config FILE")
    state = Path(values["state_dir"] or _given_by_systemd("STATE_DIRECTORY") or endpoint_dir)
    runtime = Path(values["runtime_dir"] or _given_by_systemd("RUNTIME_DIRECTORY") or state)
    socket = values["spawner_socket"]
    rest = {name: values[name] for name in ("program", "metrics", "allow_groups", "readers", "mark_jobs")}
    return Settings(endpoint_dir.absolute(), socket, state.absolute(), runtime.absolute(), **rest)


def _given_by_systemd(name: str) -> str:
    """Return the first folder in a variable of systemd.exec(5), which lists several with colons."""
    return os.environ.get(name, "").split(":")[0]


def _read(config: Path | None) -> dict[str, Any]:
    if config is None:
        return read_keys(BROKER_KEYS, {}, "")
    return read_keys(BROKER_KEYS, read_mapping(config), str(config))
