"""The spawners' policies of this host, as far as broker and administrator have to know them, and the modes in them.

Only the spawner decides what a policy means. Here it is read to tell people beforehand, and for what `status` shows.
"""

import re
import tomllib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any

ENDPOINT = "twinlock-endpoint"
"""The name of the user endpoint's program."""

INSTANCES = "instances"
"""The folder beside the first spawner's policy that has one for each instance."""

SOCKET = "/run/twinlock/spawner.sock"
"""The default of a policy's `socket`."""

_ETC = Path("/etc/twinlock")
_UNITS = tuple(Path(folder, "systemd/system") for folder in ("/etc", "/run", "/usr/local/lib", "/usr/lib"))
"""Where systemd has units, systemd.unit(5)."""

_STARTED_WITH = re.compile(r"^ExecStart=\S*/twinlock-spawner\s(?:.*\s)?--policy[\s=]+[\"']?(/[^\s\"']+)", re.MULTILINE)


class Mode(StrEnum):
    """Whom a user endpoint believes."""

    PLAIN = "plain"
    """The broker."""
    VERIFIED = "verified"
    """Only root, and who has signed."""


def read(path: Path) -> dict[str, Any]:
    """Return the content of a policy; empty if it can't be read, without those programs that aren't lists of texts."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    found = values.get("programs")
    table = found if isinstance(found, dict) else {}
    return values | {"programs": {name: argv for name, argv in table.items() if _is_argv(argv)}}


def verified_file(argv: Sequence[str]) -> Path | None:
    """Return the administrator's file of a program in verified mode; None for a program in plain mode."""
    match list(argv):
        case [program, "--verified", file] if Path(program).name == ENDPOINT:
            return Path(file)
    return None


def mode(argv: Sequence[str]) -> Mode:
    """Return the mode of a program."""
    return Mode.PLAIN if verified_file(argv) is None else Mode.VERIFIED


def mode_behind(socket: Path, program: str, near: Path) -> Mode | None:
    """Return the mode of a program of the spawner that listens on `socket`, by its policy as it is now.

    Args:
        socket: the spawner's socket.
        program: the program's name.
        near: the policy that is looked at first.

    Returns:
        None if no policy that can be read has that socket and program.
    """
    for path in _from(near):
        policy = read(path)
        if policy and policy.get("socket", SOCKET) == str(socket) and program in policy["programs"]:
            return mode(policy["programs"][program])
    return None


def _from(near: Path) -> Iterator[Path]:
    yield near
    yield from others(near)  # only if they are asked for: there are many units


def beside(path: Path) -> Sequence[Path]:
    """Return where the policies of the same site are: the first spawner's, and the instances'."""
    folder = path.absolute().parent
    top = folder.parent.parent if folder.parent.name == INSTANCES else folder
    return [top / "spawner.toml", *sorted(top.glob(f"{INSTANCES}/*/spawner.toml"))]


def others(path: Path) -> list[Path]:
    """Return the other policies of this host: beside this one, where the packages have them, and what units name."""
    known = {path.resolve()}
    found = []
    for each in (*beside(path), *beside(_ETC / "spawner.toml"), *_of_units()):
        if each.is_file() and each.resolve() not in known:
            known.add(each.resolve())
            found.append(each)
    return found


def _of_units() -> Iterator[Path]:
    """Yield the policies of spawners that systemd can start. An instance's name may be any."""
    for folder in _UNITS:
        for unit in sorted((*folder.glob("*.service"), *folder.glob("*.service.d/*.conf"))):
            for named in _STARTED_WITH.findall(_text(unit)):
                yield from sorted(Path("/").glob(named.lstrip("/").replace("%i", "*").replace("%I", "*")))


def _text(unit: Path) -> str:
    try:
        return unit.read_text(errors="replace") if unit.is_file() else ""
    except OSError:
        return ""


def _is_argv(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)
