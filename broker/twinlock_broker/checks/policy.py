"""The spawner's policy, checked by the spawner itself, against the broker's settings, and against other policies."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twinlock_broker.checks import programs
from twinlock_broker.checks.finding import Finding, Subject, failure, ok, unknown, warning
from twinlock_broker.commands import policy
from twinlock_broker.config import policies

_OWN = ("socket", "cgroup", "audit_log")
"""Keys that each spawner has to have for itself."""

_DEFAULTS = {"socket": policies.SOCKET, "audit_log": "/var/log/twinlock/audit.log"}
_UNIT_CGROUP = "/sys/fs/cgroup/twinlock.slice/twinlock-spawner@{}.service"


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
    argv: list[str] | None = policies.read(path).get("programs", {}).get(name)
    if argv is None:
        found = programs.find(policies.ENDPOINT)
        return [str(found)] if found else f"{policies.ENDPOINT} isn't installed here, so its loader can't be asked"
    if "--agent" in argv:
        return f"the program {name!r} is the official agent's endpoint, whose loader can't be asked"
    if Path(argv[0]).name != policies.ENDPOINT:
        return f"the program {name!r} is {argv[0]}, which isn't {policies.ENDPOINT}: its loader can't be asked"
    return argv


def _beside_others(path: Path) -> Iterator[Finding]:
    """Yield what the spawners of one host share although each has to have its own."""
    ours = policies.read(path)
    others = [other for other in policies.beside(path) if other.resolve() != path.resolve()]
    found = [failure(Subject.SPAWNERS, text) for other in others for text in _compare(path, ours, other)]
    copies = [copy for copy in sorted(path.absolute().parent.glob("*.toml")) if copy not in (*others, path.absolute())]
    found += [warning(Subject.SPAWNERS, text) for copy in copies for text in _compare(path, ours, copy)]
    yield from found
    instance = path.parent.name if path.parent.parent.name == policies.INSTANCES else ""
    if instance and ours.get("cgroup") != _UNIT_CGROUP.format(instance):
        yield warning(
            Subject.SPAWNERS,
            f"{path}: the packaged unit twinlock-spawner@{instance} starts only with "
            f'cgroup = "{_UNIT_CGROUP.format(instance)}"',
        )
    if not found:
        names = ", ".join(map(str, others)) or "there is no other policy"
        yield ok(Subject.SPAWNERS, f"{path}: shares no socket, cgroup or audit log ({names})")


def _compare(path: Path, ours: Mapping[str, Any], other: Path) -> Iterator[str]:
    """Yield what the policy has in common with `other`, if that is a policy."""
    theirs = policies.read(other)
    for key in _OWN if "broker_user" in theirs else ():
        value = ours.get(key, _DEFAULTS.get(key))
        if value and value == theirs.get(key, _DEFAULTS.get(key)):
            yield f"{path}: {key} is {value}, as in {other}: two spawners can't share it; give each its own"
