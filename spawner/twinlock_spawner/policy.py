"""The policy file: what the spawner may do. Root's own; nothing in it comes from the broker.

`Policy` is the table of keys: kind of value, meaning with its unit, default. Validation, errors and documents use it.
"""

import json
import os
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

from twinlock_spawner.trust import check_command, check_trusted

_MOST = 999_999_999
"""What a number may be at most."""

_MOST_OF_A_LIMIT = 2**63 - 1


CONTROLLERS = ("memory", "pids", "cpu", "io", "hugetlb")
"""Of cgroups: whose files can be limits."""


class PolicyError(ValueError):
    """The policy can't be used; the text names the key and the reason."""


Accepts = Callable[[Any], bool]


class Kind(NamedTuple):
    """A kind of value: how it is written, for people, and whether a value is one."""

    words: str
    accepts: Accepts


def _is_text(value: Any) -> bool:
    """Return whether it is a text without a null character, which no name and no path can have."""
    return type(value) is str and "\0" not in value


def _is_path(value: Any) -> bool:
    """Return whether it is an absolute path, or empty."""
    return _is_text(value) and (value == "" or value.startswith("/"))


def _is_limit(value: Any) -> bool:
    return type(value) is int and -1 <= value <= _MOST_OF_A_LIMIT


def _is_pair_of_limits(value: Any) -> bool:
    return _are_limits(value) and len(value) == 2


def _is_range(value: Any) -> bool:
    return _is_pair_of_limits(value) and 0 <= value[0] <= value[1]


def _is_command(value: Any) -> bool:
    return _are_texts(value) and value != [] and value[0].startswith("/")


def _is_written_to_a_file(value: Any) -> bool:
    """Return whether it isn't blank: the kernel takes what is blank for 0, or for nothing at all."""
    return _is_text(value) and value.strip() != ""


def _list_of(accepts: Accepts) -> Accepts:
    return lambda value: type(value) is list and all(map(accepts, value))


def _table_of(accepts: Accepts, form: str = r"[\w-]+") -> Accepts:
    def is_name(value: str) -> bool:
        return re.fullmatch(form, value) is not None

    return lambda value: type(value) is dict and all(map(is_name, value)) and all(map(accepts, value.values()))


_are_texts = _list_of(_is_text)
_are_limits = _list_of(_is_limit)

TEXT = Kind("a string in quotes", _is_text)
PATH = Kind("an absolute path in quotes", _is_path)
COUNT = Kind("a whole number, 0 or more, without quotes", lambda value: type(value) is int and 0 <= value <= _MOST)
NUMBER = Kind("a number, 0 or more, without quotes", lambda value: type(value) in (int, float) and 0 <= value <= _MOST)
FLAG = Kind("true or false, without quotes", lambda value: type(value) is bool)
TEXTS = Kind("a list of strings", _are_texts)
RANGES = Kind("a list of pairs of uids, each the first and the last of a range", _list_of(_is_range))
COMMANDS = Kind("a table of lists of strings, the first an absolute path", _table_of(_is_command))
VARIABLES = Kind("a table of strings", _table_of(_is_text))
LIMITS = Kind("a table of pairs of whole numbers", _table_of(_is_pair_of_limits))
CGROUP_LIMITS = Kind(
    f'a table of strings, by files of {", ".join(CONTROLLERS)} in quotes: "memory.max" = "8G"',
    _table_of(_is_written_to_a_file, rf"({'|'.join(CONTROLLERS)})\.[\w.]+"),
)

_SYSTEM_UIDS = [[0, 999], [60000, 65535], [2147352576, 4294967295]]
"""Where Debian, its packages and systemd put accounts of services; people of AD and sssd lie between the last two."""

_DENY_USERS = ["root", "nobody", "slurm", "munge"]

# Who is in one of these can become root, by a command, a device, a file, a daemon, or jobs of everybody.
_DENY_GROUPS = [
    "root",
    "shadow",
    "disk",
    "kmem",
    "staff",
    "sudo",
    "wheel",
    "docker",
    "lxd",
    "incus-admin",
    "libvirt",
    "mock",
    "microk8s",
    "slurm",
    "munge",
]

_RLIMITS = {
    "core": [0, -1],
    "nice": [0, 0],
    "nofile": [1024, 524288],
    "nproc": [16384, 16384],
    "rtprio": [0, 0],
}


class Policy(SimpleNamespace):
    """The keys of the policy file; a key without default must be there."""

    broker_user: Annotated[str, TEXT, "account in /etc/passwd that the broker runs under; only it may connect"]
    programs: Annotated[dict[str, list[str]], COMMANDS, "by name: the absolute path and fixed arguments"]
    socket: Annotated[str, PATH, "path of the socket; its folder has to exist"] = "/run/twinlock/spawner.sock"
    audit_log: Annotated[str, PATH, "path of the audit log; appended to"] = "/var/log/twinlock/audit.log"
    system_uids: Annotated[list[list[int]], RANGES, "ranges of uids that no endpoint runs under"] = _SYSTEM_UIDS
    allow_groups: Annotated[list[str], TEXTS, "the account must be in one of these; empty: no such condition"] = []
    deny_groups: Annotated[list[str], TEXTS, "the account must be in none of these, as good as root"] = _DENY_GROUPS
    deny_users: Annotated[list[str], TEXTS, "accounts that are never used"] = _DENY_USERS
    allowed_shells: Annotated[list[str], TEXTS, "the account's must be one of these; empty: no such condition"] = []
    max_children: Annotated[int, COUNT, "most endpoints at a time"] = 1000
    max_children_per_user: Annotated[int, COUNT, "most endpoints of one account at a time"] = 20
    start_rate: Annotated[float, NUMBER, "starts per second, 0.055 at least; what 20 s allow may come at once"] = 50.0
    start_rate_per_user: Annotated[float, NUMBER, "the same for one account"] = 1.0
    exec_timeout: Annotated[float, NUMBER, "seconds that a child may take from fork to exec"] = 10.0
    stop_grace: Annotated[float, NUMBER, "seconds between TERM and KILL of an endpoint"] = 10.0
    no_new_privs: Annotated[bool, FLAG, "children can't gain privileges by setuid programs (sudo, PBS)"] = True
    login_uid: Annotated[bool, FLAG, "a child's login uid is its user's, for the host's audit rules"] = True
    pam_service: Annotated[str, TEXT, "PAM service that opens a session for each endpoint; empty: none"] = ""
    verified_only: Annotated[bool, FLAG, "each program has to be PROGRAM --verified FILE: signed work only"] = False
    environment: Annotated[dict[str, str], VARIABLES, "a child's, beside HOME, USER, LOGNAME and SHELL"] = {}
    rlimits: Annotated[dict[str, list[int]], LIMITS, "by name: [soft, hard]; -1: none"] = _RLIMITS
    cgroup: Annotated[str, PATH, "folder of a cgroup v2 that is the spawner's alone; empty: none"] = ""
    limits: Annotated[dict[str, str], CGROUP_LIMITS, "what one endpoint may use: files of its cgroup"] = {}
    user_limits: Annotated[dict[str, str], CGROUP_LIMITS, "what all endpoints of an account may use together"] = {}


def load(path: str) -> Policy:
    """Return the policy in the TOML file `path`.

    Raises `PolicyError`, also where someone but root could change the file, a program, or what is made.
    """
    import tomllib  # it is in no process that stays

    try:
        check_trusted(path)
        with open(path, "rb") as file:
            values = tomllib.load(file)
        _replace_min_uid(values, path)
        _check_keys(values)
        policy = Policy(**values)
        if (policy.limits or policy.user_limits) and not policy.cgroup:
            raise ValueError("limits and user_limits need a cgroup: name the folder of one in cgroup")
        for name, command in policy.programs.items():
            if policy.verified_only:
                _check_verified(name, command)
            check_command(command)
        for made in (policy.socket, policy.audit_log):
            check_trusted(os.path.dirname(made))
    except (OSError, ValueError, RecursionError) as error:  # links and interpreters may lead in a circle
        raise PolicyError(f"{path}: {error}") from error
    return policy


def _replace_min_uid(values: dict[str, Any], path: str) -> None:
    """Take a policy from before `system_uids` as it was meant, and say what to write. For one version only."""
    if not COUNT.accepts(values.get("min_uid")) or "system_uids" in values:
        return
    least = values.pop("min_uid")
    ranges = [[0, max(least, 1) - 1], *_SYSTEM_UIDS[1:]]
    values["system_uids"] = ranges
    print(f"twinlock-spawner: warning: {path}: in place of min_uid, write: system_uids = {ranges}", file=sys.stderr)


def _check_keys(values: dict[str, Any]) -> None:
    """Raise `ValueError` for a key that isn't one, a value of another kind, or a key that is missing."""
    known = get_type_hints(Policy, include_extras=True)
    for name in values:
        if name not in known:
            raise ValueError(f"{name}: there is no such key; {_nearest(name, known)}")
    for name, hint in known.items():
        _, kind, meaning = get_args(hint)
        value = values.get(name, getattr(Policy, name, None))
        if value is None:
            raise ValueError(f"{name} is missing; it has to be {kind.words}: {meaning}")
        if not kind.accepts(value):
            written = json.dumps(value, ensure_ascii=False, default=str)[:200]  # as in the file, more or less
            raise ValueError(f"{name} has to be {kind.words}, not {written}: {meaning}")


def _nearest(name: str, known: dict[str, Any]) -> str:
    import difflib  # only for an error

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)  # login_uid isn't near to min_uid
    return f"did you mean {near[0]}?" if near else f"known are: {', '.join(sorted(known))}"


def _check_verified(name: str, command: list[str]) -> None:
    """Raise `ValueError` unless the command is an absolute path, ``--verified`` and another one, and nothing more."""
    if command[1:-1] != ["--verified"] or not command[-1].startswith("/"):
        raise ValueError(
            f"programs: {name} may run work that nobody has signed, which verified_only rules out; remove it, or write"
            f' {name} = ["/usr/bin/twinlock-endpoint", "--verified", "/etc/twinlock/verified.toml"]'
        )


def local_account(name: str) -> tuple[int, int]:
    """Return uid and gid of a local account. Raises `PolicyError`.

    /etc/passwd is read here, since NSS would run modules of the site as root.
    """
    with open("/etc/passwd", "rb") as table:
        for line in table:
            fields = line.split(b":")
            if fields[0] == name.encode():
                return int(fields[2]), int(fields[3])
    raise PolicyError(f"broker_user: there is no account {name} in /etc/passwd; create it first")


def is_system_uid(uid: int, policy: Policy) -> bool:
    """Return whether a range of `system_uids` has the uid. None has -1, the highest, which setresuid(2) doesn't set."""
    return uid < 0 or any(first <= uid <= last for first, last in policy.system_uids)
