"""The policy file: what the spawner may do. Root's own; nothing in it comes from the broker."""

import os
import stat
import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any


class PolicyError(Exception):
    """The policy can't be used; the text names the key and the reason."""


def _key(meaning: str, default: Any = None) -> Any:
    if default is None:
        return field(metadata={"meaning": meaning})
    return field(metadata={"meaning": meaning}, default_factory=lambda: default)


@dataclass(frozen=True, slots=True)
class Policy:
    """The keys of the policy file; a key without default must be there."""

    broker_user: str = _key("account that the broker runs under; only its processes may connect")
    programs: dict[str, list[str]] = _key("programs by name: absolute path and fixed arguments")
    socket: str = _key("path of the socket; its folder has to exist", "/run/twinlock/spawner.sock")
    audit_log: str = _key("path of the audit log; appended to", "/var/log/twinlock/audit.log")
    min_uid: int = _key("least uid that an endpoint may run under", 1000)
    allow_groups: list[str] = _key("the account must be in one of these groups; empty: no such condition", [])
    deny_users: list[str] = _key("accounts that are never used", ["root", "nobody"])
    allowed_shells: list[str] = _key("the account's shell must be one of these; empty: no such condition", [])
    max_children: int = _key("most endpoints at a time", 1000)
    max_children_per_user: int = _key("most endpoints of one account at a time", 20)
    exec_timeout: float = _key("seconds that a child may take from fork to exec", 10.0)
    stop_grace: float = _key("seconds between TERM and KILL of an endpoint", 10.0)
    no_new_privs: bool = _key("children can't gain privileges by setuid programs (sudo, PBS)", True)
    environment: dict[str, str] = _key("a child's environment, HOME, USER, LOGNAME and SHELL apart", {})
    cgroup: str = _key("folder of a cgroup v2 that is the spawner's alone; empty: none", "")


def load(path: str) -> Policy:
    """The policy in the TOML file `path`. Raises `PolicyError`, also where someone but root could change the file."""
    try:
        check_trusted(path)
        values = tomllib.loads(Path(path).read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise PolicyError(f"{path}: {error}") from error
    for name, value in values.items():
        _check_type(name, value)
    try:
        policy = Policy(**values)
    except TypeError as error:
        raise PolicyError(f"{path}: a key is missing: {error}") from error
    for program in policy.programs:
        _check_program(program, policy.programs[program])
    return policy


def _check_type(name: str, value: Any) -> None:
    known: dict[str, Any] = {item.name: item.type for item in fields(Policy)}
    if name not in known:
        raise PolicyError(f"{name}: no such key; there are {', '.join(known)}")
    kind = known[name]
    items: list[Any] = list(value.values()) if type(value) is dict else value if type(value) is list else []
    good = {
        str: type(value) is str,
        bool: type(value) is bool,
        int: type(value) is int and value >= 0,
        float: type(value) in (int, float) and value > 0,
        list[str]: type(value) is list and all(type(item) is str for item in items),
        dict[str, str]: type(value) is dict and all(type(item) is str for item in items),
        dict[str, list[str]]: type(value) is dict and all(type(item) is list for item in items),
    }
    if not good[kind]:
        raise PolicyError(f"{name}: has to be {getattr(kind, '__name__', kind)}, not {value!r}")


def _check_program(name: str, argv: list[Any]) -> None:
    if not argv or not all(type(word) is str for word in argv) or not argv[0].startswith("/"):
        raise PolicyError(f"programs.{name}: has to be an absolute path and its arguments, not {argv!r}")


def check_trusted(path: str) -> None:
    """Raise `OSError` unless only root (or we ourselves, in same-user mode) can change `path`, up to ``/``.

    A folder that others may write to is good enough where it is sticky: they can't replace what isn't theirs.
    """
    real = os.path.realpath(path, strict=True)
    for place in (Path(real), *Path(real).parents):
        status = place.stat()
        if status.st_uid not in (0, os.geteuid()):
            raise OSError(f"{place} belongs to uid {status.st_uid}, not to root")
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not status.st_mode & stat.S_ISVTX:
            raise OSError(f"{place} is writable by others than its owner")
