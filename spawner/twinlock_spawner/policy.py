"""The policy file: what the spawner may do. Root's own; nothing in it comes from the broker.

`Policy` is the table of keys: type, form, meaning with its unit, default. Validation, errors and documentation use it.
"""

import json
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, NamedTuple, get_args, get_type_hints

# What a value looks like in JSON; a null character, which no name or path can have, would be \\u0000.
_TEXT, _PATH, _NAME, _COUNT = r'"([^"\\]|\\(?!u0000).)*"', r'"(/[^"\\]*)?"', r'"[\w-]+"', r"\d{1,9}"
_TEXTS, _PAIR, _ARGV = rf"\[({_TEXT}(, )?)*\]", rf"\[-?{_COUNT}, -?{_COUNT}\]", rf'\["/[^"\\]*"(, {_TEXT})*\]'
_NUMBER = rf"{_COUNT}(\.\d+)?"
_RLIMITS = {"core": [0, -1], "nice": [0, 0], "nofile": [1024, 524288], "nproc": [16384, 16384], "rtprio": [0, 0]}


class PolicyError(ValueError):
    """The policy can't be used; the text names the key and the reason."""


class Policy(NamedTuple):
    """The keys of the policy file; a key without default must be there."""

    broker_user: Annotated[str, _TEXT, "account in /etc/passwd that the broker runs under; only it may connect"]
    programs: Annotated[
        dict[str, list[str]], rf"\{{({_NAME}: {_ARGV}(, )?)*\}}", "by name: the absolute path and fixed arguments"
    ]
    socket: Annotated[str, _PATH, "path of the socket; its folder has to exist"] = "/run/twinlock/spawner.sock"
    audit_log: Annotated[str, _PATH, "path of the audit log; appended to"] = "/var/log/twinlock/audit.log"
    min_uid: Annotated[int, _COUNT, "least uid that an endpoint may run under"] = 1000
    allow_groups: Annotated[list[str], _TEXTS, "the account must be in one of these; empty: no such condition"] = []
    deny_users: Annotated[list[str], _TEXTS, "accounts that are never used"] = ["root", "nobody"]
    allowed_shells: Annotated[list[str], _TEXTS, "the account's must be one of these; empty: no such condition"] = []
    max_children: Annotated[int, _COUNT, "most endpoints at a time"] = 1000
    max_children_per_user: Annotated[int, _COUNT, "most endpoints of one account at a time"] = 20
    start_rate: Annotated[float, _NUMBER, "starts per second, 0.05 at least; what 20 s allow may come at once"] = 50.0
    start_rate_per_user: Annotated[float, _NUMBER, "the same for one account"] = 1.0
    exec_timeout: Annotated[float, _NUMBER, "seconds that a child may take from fork to exec"] = 10.0
    stop_grace: Annotated[float, _NUMBER, "seconds between TERM and KILL of an endpoint"] = 10.0
    no_new_privs: Annotated[bool, "true|false", "children can't gain privileges by setuid programs (sudo, PBS)"] = True
    pam_service: Annotated[str, _TEXT, "PAM service that opens a session for each endpoint; empty: none"] = ""
    environment: Annotated[
        dict[str, str], rf"\{{({_NAME}: {_TEXT}(, )?)*\}}", "a child's, beside HOME, USER, LOGNAME and SHELL"
    ] = {}
    rlimits: Annotated[dict[str, list[int]], rf"\{{({_NAME}: {_PAIR}(, )?)*\}}", "[soft, hard]; -1: none"] = _RLIMITS
    cgroup: Annotated[str, _PATH, "folder of a cgroup v2 that is the spawner's alone; empty: none"] = ""


def load(path: str) -> Policy:
    """The policy in the TOML file `path`. Raises `PolicyError`, also where someone but root could change the file."""
    try:
        check_trusted(path)
        values = tomllib.loads(Path(path).read_text("utf-8"))
        policy = Policy(**values)  # a TypeError names a key that is missing or unknown
        for key, hint in get_type_hints(Policy, include_extras=True).items():
            if not re.fullmatch(get_args(hint)[1], json.dumps(getattr(policy, key), ensure_ascii=False)):
                raise ValueError(f"{key}: has to be {get_args(hint)[0]}, {get_args(hint)[2]}")
        for path_of_ours in (*(argv[0] for argv in policy.programs.values()), *map(os.path.dirname, policy[2:4])):
            check_trusted(path_of_ours)  # and where socket and log are made
    except (OSError, ValueError, TypeError, RecursionError) as error:  # links may lead in a circle
        raise PolicyError(f"{path}: {str(error).removeprefix('Policy.__new__() ')}") from error
    return policy


def account(name: str) -> tuple[int, int]:
    """Uid and gid of a local account. Raises `PolicyError`. Not by NSS, which would run modules of the site as root."""
    for fields in (line.split(":") for line in Path("/etc/passwd").read_text("utf-8", "replace").splitlines()):
        if fields[0] == name:
            return int(fields[2]), int(fields[3])
    raise PolicyError(f"broker_user: there is no account {name} in /etc/passwd; create it first")


def check_trusted(path: str) -> None:
    """Raise `OSError` unless only root (or in same-user mode we) can change `path`, link by link, up to ``/``.

    A folder that others may write to is good enough where it is sticky: they can't replace what isn't theirs.
    """
    for place in (Path(path).absolute(), *Path(path).absolute().parents):
        status, link = place.lstat(), place.is_symlink()
        if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not (link or status.st_mode & 0o1000)):
            raise OSError(f"{place} is writable by others than root: owner {status.st_uid}, mode {status.st_mode:o}")
        if link:
            check_trusted(str(place.parent / place.readlink()))
