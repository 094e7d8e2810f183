"""Where an endpoint's broker keeps what isn't in the endpoint folder, as the packages and their units have it.

The broker's own file is `broker.yaml` beside the folder, or the one in /etc/twinlock that names it. Beside that is the
folder `client`, from which systemd takes the login. The state is in /var/lib/twinlock, for an instance in
/var/lib/twinlock-instances (packaging/systemd/twinlock-broker.service and twinlock-broker@.service).
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_common.site_files import load_yaml, read_file

_ETC = Path("/etc/twinlock")
_STATE = Path("/var/lib/twinlock")
_RUN = Path("/run/twinlock")
_INSTANCES = "instances"


@dataclass(frozen=True, slots=True)
class Placed:
    """What belongs to an endpoint folder."""

    state: Path
    """The broker's state folder; without a `config`, the endpoint folder itself."""
    config: Path | None = None
    """The broker's own file; None if there is none for this folder."""

    @property
    def client(self) -> Path | None:
        """The folder with the client's id and secret; None without a `config`."""
        return self.config.parent / "client" if self.config else None

    @property
    def policy(self) -> Path:
        """The policy of the endpoint's spawner: the one beside the broker's file, else the packaged one."""
        packaged = _ETC / "spawner.toml"
        beside = self.config.with_name("spawner.toml") if self.config else packaged
        return beside if beside.exists() else packaged

    @property
    def runtime(self) -> Path | None:
        """The folder of the broker's sockets, by its file, else by its unit; None without a `config`."""
        if self.config is None:
            return None
        named, instance = _read(self.config).get("runtime_dir"), _instance(self.config)
        packaged = (
            _RUN.with_name(f"{_RUN.name}-{_INSTANCES}") / instance if instance else _RUN.with_name("twinlock-broker")
        )
        return Path(named) if isinstance(named, str) else packaged

    @property
    def spawner_socket(self) -> Path | None:
        """The socket that an instance's unit names on the broker's command line; None if broker.yaml decides."""
        instance = _instance(self.config) if self.config else ""
        return _RUN / f"{instance}.sock" if instance else None


def find(folder: Path, state: Path | None = None, environ: Mapping[str, str] = os.environ) -> Placed:
    """Return what belongs to `folder`; the state folder is `state` if one is given, else systemd's for this process."""
    config = next((path for path in _configs(folder) if _names(path, folder)), None)
    given = state or environ.get("STATE_DIRECTORY", "").split(":")[0]
    if config is None:
        return Placed(Path(given or folder))
    return Placed(Path(given or _state(config)), config)


def _configs(folder: Path) -> Iterator[Path]:
    yield folder.absolute().parent / "broker.yaml"
    yield _ETC / "broker.yaml"
    yield from sorted(_ETC.glob(f"{_INSTANCES}/*/broker.yaml"))


def _names(config: Path, folder: Path) -> bool:
    """Return whether the broker's file is for this endpoint folder. An instance's unit names the folder `endpoint`."""
    if _instance(config):
        named: Any = config.parent / "endpoint"
    else:
        named = _read(config).get("endpoint_dir")
    try:
        return isinstance(named, str | Path) and os.path.samefile(named, folder)  # noqa: PTH121
    except OSError:
        return False


def _state(config: Path) -> Path:
    named, instance = _read(config).get("state_dir"), _instance(config)
    if isinstance(named, str):
        return Path(named)
    return _STATE.with_name(f"{_STATE.name}-{_INSTANCES}") / instance if instance else _STATE


def _instance(config: Path) -> str:
    """Return the name of the instance that the broker's file belongs to; empty for the only or first one."""
    return config.parent.name if config.parent.parent.name == _INSTANCES else ""


def _read(config: Path) -> dict[Any, Any]:
    """Return the content of the broker's file; empty if it can't be read, which `twinlock-broker` reports."""
    try:
        found = load_yaml(read_file(config))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
