"""The systemd unit that the agent's ``enable-on-boot`` writes, with what an administrator added to it."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

SYSTEM_UNITS = Path("/etc/systemd/system")

_AGENT_DIRECTIVES = frozenset(
    ("Description", "After", "StartLimitIntervalSec", "ExecStart", "User", "Type", "Restart", "RestartSec", "WantedBy")
)
"""Directives that the agent itself writes."""


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit with its drop-ins."""

    path: Path
    """The unit's own file."""
    environment: dict[str, str] = field(default_factory=dict, repr=False)
    """The variables that it sets, with their values, which may be secret."""
    others: tuple[str, ...] = ()
    """Directives, as `KEY=VALUE`, that the agent's own unit doesn't have."""


def default_path(name: str) -> Path:
    """Return where the agent writes the unit of the endpoint `name`."""
    return SYSTEM_UNITS / f"globus-compute-endpoint-{name}.service"


def read(path: Path) -> Unit | None:
    """Return the unit with its drop-ins, None if there is none. Raise `OSError` or `ValueError` if it can't be read."""
    if not path.is_file():
        return None
    environment: dict[str, str] = {}
    others: list[str] = []
    for file in (path, *sorted(path.with_name(f"{path.name}.d").glob("*.conf"))):
        for key, value in _directives(file.read_text()):
            if key in ("Environment", "EnvironmentFile"):
                environment |= _variables(shlex.split(value) if key == "Environment" else _file(value))
            elif key not in _AGENT_DIRECTIVES:
                others.append(f"{key}={value}")
    return Unit(path, environment, tuple(others))


def _directives(text: str) -> Iterator[tuple[str, str]]:
    for line in text.replace("\\\n", " ").splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith(("#", ";")):
            yield key.strip(), value.strip()


def _file(name: str) -> list[str]:
    path = Path(name.removeprefix("-"))
    if name.startswith("-") and not path.exists():
        return []
    lines = (line.strip() for line in path.read_text().splitlines())
    return [" ".join(shlex.split(line)) for line in lines if line and not line.startswith(("#", ";"))]


def _variables(words: list[str]) -> dict[str, str]:
    return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
