"""The spawner's policy as an administrator's commands see it: by the spawner's own word, and beside the broker's."""

import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

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
    """What ``twinlock-spawner --check`` says; it is installed beside this command, or it isn't asked."""
    spawner = Path(sys.executable).with_name("twinlock-spawner")
    if not spawner.exists():
        return []
    argv = [str(spawner), "--check", "--policy", str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return [f"{path}: twinlock-spawner --check took more than {_LIMIT:.0f} seconds"]
    return done.stderr.splitlines() if done.returncode else []


def _beside_the_broker(path: Path, values: dict[str, Any], program: str) -> list[str]:
    programs = values.get("programs")
    if not isinstance(programs, dict) or program in programs:
        return []
    return [f"{path}: programs has no {program!r}, which the broker asks for; its key 'program' names another"]
