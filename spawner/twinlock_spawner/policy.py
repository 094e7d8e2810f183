"""The policy file: what the spawner may do. Root's own; nothing in it comes from the broker.

`Policy` is the table of keys: type, form, meaning with its unit, default. Validation, errors and documentation use it.
"""

from __future__ import annotations

import io
import os
from types import SimpleNamespace

TYPE_CHECKING = False  # `load` imports what it needs: parsers are in no process that stays
if TYPE_CHECKING:
    from typing import Annotated

# What a value looks like in JSON; a null character, which no name or path can have, would be \\u0000.
_TEXT, _PATH, _COUNT, _NUMBER = r'"([^"\\]|\\(?!u0000).)*"', r'"(/[^"\\]*)?"', r"\d{1,9}", r"\d{1,9}(\.\d+)?"
_ARGV, _PAIR, _TEXTS = rf'\["/[^"\\]*"(, {_TEXT})*\]', r"\[-?\d{1,9}, -?\d{1,9}\]", rf"\[({_TEXT}(, )?)*\]"
_ARGVS, _WORDS, _PAIRS = (rf'\{{("[\w-]+": {form}(, )?)*\}}' for form in (_ARGV, _TEXT, _PAIR))
FORMS = {  # in words
    _TEXT: "a string in quotes",
    _PATH: "an absolute path in quotes",
    _COUNT: "a whole number, 0 or more, without quotes",
    _NUMBER: "a number, 0 or more, without quotes",
    "true|false": "true or false, without quotes",
    _TEXTS: "a list of strings",
    _ARGVS: "a table of lists of strings, the first an absolute path",
    _WORDS: "a table of strings",
    _PAIRS: "a table of pairs of whole numbers",
}
_RLIMITS = {"core": [0, -1], "nice": [0, 0], "nofile": [1024, 524288], "nproc": [16384, 16384], "rtprio": [0, 0]}


class PolicyError(ValueError):
    """The policy can't be used; the text names the key and the reason."""


class Policy(SimpleNamespace):
    """The keys of the policy file; a key without default must be there."""

    broker_user: Annotated[str, _TEXT, "account in /etc/passwd that the broker runs under; only it may connect"]
    programs: Annotated[dict[str, list[str]], _ARGVS, "by name: the absolute path and fixed arguments"]
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
    environment: Annotated[dict[str, str], _WORDS, "a child's, beside HOME, USER, LOGNAME and SHELL"] = {}
    rlimits: Annotated[dict[str, list[int]], _PAIRS, "by name: [soft, hard]; -1: none"] = _RLIMITS
    cgroup: Annotated[str, _PATH, "folder of a cgroup v2 that is the spawner's alone; empty: none"] = ""


def load(path: str) -> Policy:
    """The policy in the TOML file `path`. Raises `PolicyError`, also where someone but root could change the file."""
    import tomllib

    try:
        check_trusted(os.path.abspath(path))
        policy = Policy(**(values := tomllib.load(io.FileIO(path))))
        check_values(values)
        folders = [os.path.dirname(made) for made in (policy.socket, policy.audit_log)]
        list(map(check_trusted, [argv[0] for argv in policy.programs.values()] + folders))
    except (OSError, ValueError, TypeError, RecursionError) as error:  # links may lead in a circle
        raise PolicyError(f"{path}: {error}") from error
    return policy


def check_values(values: dict[str, object]) -> None:
    """Raise `ValueError` for a key that isn't one, a value of another kind, or a key that is missing."""
    import difflib
    import json
    import re
    from typing import Annotated, get_args, get_type_hints

    keys = get_type_hints(Policy, localns={"Annotated": Annotated}, include_extras=True)
    for key in [key for key in values if key not in keys]:
        near = difflib.get_close_matches(key, keys, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are: {', '.join(sorted(keys))}"
        raise ValueError(f"{key}: there is no such key; {hint}")
    for key, annotation in keys.items():
        _, form, meaning = get_args(annotation)
        value = values.get(key, getattr(Policy, key, None))
        if value is None:
            raise ValueError(f"{key} is missing; it has to be {FORMS[form]}: {meaning}")
        text = json.dumps(value, ensure_ascii=False, default=lambda _: None)  # TOML has dates, which no key is
        if not re.fullmatch(form, text):
            raise ValueError(f"{key} has to be {FORMS[form]}, not {text[:200]}: {meaning}")


def account(name: str) -> tuple[int, int]:
    """Uid and gid of a local account. Raises `PolicyError`. Not by NSS, which would run modules of the site as root."""
    for fields in (line.split(b":") for line in io.FileIO("/etc/passwd") if line.startswith(f"{name}:".encode())):
        return int(fields[2]), int(fields[3])
    raise PolicyError(f"broker_user: there is no account {name} in /etc/passwd; create it first")


def check_trusted(path: str) -> None:
    """Raise `OSError` unless only root (or in same-user mode we) can change `path`, link by link, up to ``/``.

    A folder that others may write to is good enough where it is sticky: they can't replace what isn't theirs.
    """
    # S_IFLNK: inode(7)
    folder, link = os.path.dirname(path), os.readlink(path) if (status := os.lstat(path)).st_mode >> 12 == 0o12 else ""
    if status.st_uid not in (0, os.geteuid()) or (status.st_mode & 0o022 and not (link or status.st_mode & 0o1000)):
        raise OSError(f"{path} is writable by others than root: owner {status.st_uid}, mode {status.st_mode:o}")
    list(map(check_trusted, {folder, link and os.path.abspath(os.path.join(folder, link))} - {path, ""}))
