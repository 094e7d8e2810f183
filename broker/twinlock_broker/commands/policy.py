"""The spawner's policy as an administrator's commands check it: by the spawner itself, and against the broker."""

import subprocess
import tomllib
from pathlib import Path
from typing import Any

from twinlock_broker.checks import programs

DEFAULT = Path("/etc/twinlock/spawner.toml")
_LIMIT = 30.0
_WARNING = "twinlock-spawner: warning: "


def problems(path: Path, program: str) -> tuple[list[str], list[str]]:
    """Return what is wrong with the policy for a broker that asks for `program`, and what is only odd in it.

    Raises:
        OSError: it can't be read.
    """
    text = path.read_text()
    wrong, odd = _by_the_spawner(path)
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return wrong or [f"{path}: not valid TOML"], odd
    return wrong + _beside_the_broker(path, values, program), odd


def _by_the_spawner(path: Path) -> tuple[list[str], list[str]]:
    """Return what ``twinlock-spawner --check`` finds wrong with the policy; if nothing, what it warns about.

    Both lists are empty if it isn't installed.
    """
    spawner = programs.find("twinlock-spawner")
    if spawner is None:
        return [], []
    argv = [str(spawner), "--check", "--policy", str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return [f"{path}: twinlock-spawner --check took more than {_LIMIT:.0f} seconds"], []
    said = done.stderr.splitlines()
    if done.returncode == 0:
        return [], [line.removeprefix(_WARNING) for line in said]
    return said or [f"{path}: twinlock-spawner --check ended with {done.returncode}"], []


def _beside_the_broker(path: Path, values: dict[str, Any], program: str) -> list[str]:
    programs = values.get("programs")
    if not isinstance(programs, dict) or program in programs:
        return []
    return [f"{path}: programs has no {program!r}, which the broker asks for; its key 'program' names another"]
