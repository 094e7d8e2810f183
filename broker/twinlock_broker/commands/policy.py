"""The spawner's policy as an administrator's commands see it: by the spawner's own word, and beside the broker's."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

from twinlock_broker.checks import programs

DEFAULT = Path("/etc/twinlock/spawner.toml")
_LIMIT = 30.0


def problems(path: Path, program: str) -> list[str]:
    """What is wrong with the policy for a broker that asks for `program`. Raises `OSError` where it can't be read."""
    text = path.read_text()
    wrong = _by_the_spawner(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return wrong or [f"{path}: not valid TOML"]
    return wrong + _beside_the_broker(path, values, program)


def _by_the_spawner(path: Path) -> list[str]:
    """What ``twinlock-spawner --check`` says; where it isn't installed, it isn't asked."""
    spawner = programs.find("twinlock-spawner")
    if spawner is None:
        return []
    argv = [str(spawner), "--check", "--policy", str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return [f"{path}: twinlock-spawner --check took more than {_LIMIT:.0f} seconds"]
    if done.returncode == 0:
        return []
    return done.stderr.splitlines() or [f"{path}: twinlock-spawner --check ended with {done.returncode}"]


def _beside_the_broker(path: Path, values: dict[str, Any], program: str) -> list[str]:
    programs = values.get("programs")
    if not isinstance(programs, dict) or program in programs:
        return []
    return [f"{path}: programs has no {program!r}, which the broker asks for; its key 'program' names another"]
