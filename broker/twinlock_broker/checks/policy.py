"""The spawner's policy, checked by the spawner itself, against the broker's settings, and against other policies."""

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from twinlock_broker.checks import programs
from twinlock_broker.checks.finding import Finding, Subject, failure, ok, unknown, warning
from twinlock_broker.commands import policy

_INSTANCES = "instances"
_OWN = ("socket", "cgroup", "audit_log")
"""Keys that each spawner has to have for itself."""

_DEFAULTS = {"socket": "/run/twinlock/spawner.sock", "audit_log": "/var/log/twinlock/audit.log"}
_UNIT_CGROUP = "/sys/fs/cgroup/twinlock.slice/twinlock-spawner@{}.service"
_PROGRAM = "twinlock-endpoint"


def check(path: Path, program: str) -> Iterator[Finding]:
    """Check the policy at `path`, for a broker that asks for `program`."""
    if programs.find("twinlock-spawner") is None:
        yield unknown(
            Subject.POLICY, f"{path}: twinlock-spawner isn't installed here, so its --check can't look at the policy"
        )
    try:
        wrong, odd = policy.problems(path, program)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        yield unknown(Subject.POLICY, f"{path}: {reason}; name the spawner's policy with --policy")
        yield unknown(Subject.SPAWNERS, f"{path}: without the policy there is nothing to compare")
        return
    found = [failure(Subject.POLICY, text) for text in wrong] + [warning(Subject.POLICY, text) for text in odd]
    yield from found or [ok(Subject.POLICY, f"{path}: can be used")]
    yield from _beside_others(path)


def endpoint_program(path: Path, name: str) -> list[str] | str:
    """Return the argv of the policy's program `name`; without a readable policy, that of the installation.

    A text in its place says why the endpoint's loader can't be asked.
    """
    argv: list[str] | None = read_policy(path).get("programs", {}).get(name)
    if argv is None:
        found = programs.find(_PROGRAM)
        return [str(found)] if found else f"{_PROGRAM} isn't installed here, so its loader can't be asked"
    if "--agent" in argv:
        return f"the program {name!r} is the official agent's endpoint, whose loader can't be asked"
    if Path(argv[0]).name != _PROGRAM:
        return f"the program {name!r} is {argv[0]}, which isn't {_PROGRAM}: its loader can't be asked"
    return argv


def _beside_others(path: Path) -> Iterator[Finding]:
    """Yield what the spawners of one host share although each has to have its own."""
    ours = read_policy(path)
    others = [other for other in _others(path) if other.resolve() != path.resolve()]
    found = [failure(Subject.SPAWNERS, text) for other in others for text in _compare(path, ours, other)]
    copies = [copy for copy in sorted(path.absolute().parent.glob("*.toml")) if copy not in (*others, path.absolute())]
    found += [warning(Subject.SPAWNERS, text) for copy in copies for text in _compare(path, ours, copy)]
    yield from found
    instance = path.parent.name if path.parent.parent.name == _INSTANCES else ""
    if instance and ours.get("cgroup") != _UNIT_CGROUP.format(instance):
        yield warning(
            Subject.SPAWNERS,
            f"{path}: the packaged unit twinlock-spawner@{instance} starts only with "
            f'cgroup = "{_UNIT_CGROUP.format(instance)}"',
        )
    if not found:
        names = ", ".join(map(str, others)) or "there is no other policy"
        yield ok(Subject.SPAWNERS, f"{path}: shares no socket, cgroup or audit log ({names})")


def _others(path: Path) -> Sequence[Path]:
    """Return the policies of the same site: the first spawner's, and the instances'."""
    folder = path.absolute().parent
    top = folder.parent.parent if folder.parent.name == _INSTANCES else folder
    return [top / "spawner.toml", *sorted(top.glob(f"{_INSTANCES}/*/spawner.toml"))]


def _compare(path: Path, ours: Mapping[str, Any], other: Path) -> Iterator[str]:
    """Yield what the policy has in common with `other`, if that is a policy."""
    theirs = read_policy(other)
    for key in _OWN if "broker_user" in theirs else ():
        value = ours.get(key, _DEFAULTS.get(key))
        if value and value == theirs.get(key, _DEFAULTS.get(key)):
            yield f"{path}: {key} is {value}, as in {other}: two spawners can't share it; give each its own"


def read_policy(path: Path) -> dict[str, Any]:
    """Return the content of a policy; empty if it can't be read, without those programs that aren't lists of texts."""
    try:
        values = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        return {}
    found = values.get("programs")
    table = found if isinstance(found, dict) else {}
    return values | {"programs": {name: argv for name, argv in table.items() if _is_argv(argv)}}


def _is_argv(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(word, str) for word in value)
