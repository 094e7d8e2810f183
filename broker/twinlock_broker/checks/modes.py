"""The mode in which each program runs, and whether a program in plain mode can write where one is verified."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from twinlock_broker.checks import common_accounts
from twinlock_broker.checks.finding import Finding, Subject, ok, unknown, warning
from twinlock_broker.config import policies
from twinlock_broker.config.policies import Mode

_KEY = "verified_only"


def check(path: Path) -> Iterator[Finding]:
    """Check the policy at `path` against itself and the other policies of this host."""
    ours = policies.read(path)
    programs = ours.get("programs", {})
    if not programs:
        yield unknown(Subject.MODE, f"{path}: no programs can be read from it; name the policy with --policy")
        return
    for name, argv in sorted(programs.items()):
        yield ok(Subject.MODE, f"{path}: the program {name!r} runs in {_mode(argv)}")
    if not _named(ours, Mode.PLAIN) and ours.get(_KEY) is not True:
        yield warning(
            Subject.MODE,
            f"{path}: every program is verified, and {_KEY} isn't set: with {_KEY} = true the spawner also refuses a "
            "program that somebody adds without --verified",
        )
    yield from _beside_itself(path, ours)
    for other in policies.others(path):
        theirs = policies.read(other)
        yield from _plain_beside(path, ours, other, theirs)
        yield from _plain_beside(other, theirs, path, ours)


def _mode(argv: list[str]) -> str:
    file = policies.verified_file(argv)
    return "plain mode, which believes the broker" if file is None else f"verified mode, by {file}"


def _named(policy: Mapping[str, Any], mode: Mode) -> list[str]:
    """Return the names of the programs that run in this mode."""
    return sorted(name for name, argv in policy.get("programs", {}).items() if policies.mode(argv) is mode)


def _quoted(names: list[str]) -> str:
    return ", ".join(map(repr, names))


def _beside_itself(path: Path, policy: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield that a broker may choose a plain program for the accounts of a verified one."""
    verified, plain = _named(policy, Mode.VERIFIED), _named(policy, Mode.PLAIN)
    if verified and plain:
        yield warning(
            Subject.MODE,
            f"{path}: {_quoted(plain)} runs in plain mode as the accounts of {_quoted(verified)}, so whoever controls "
            f"the broker can run anything as them: give it a policy and accounts of its own, then set {_KEY} = true",
        )


def _plain_beside(path: Path, policy: Mapping[str, Any], other: Path, theirs: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield whether plain programs of the policy `theirs` run as accounts for which programs of `policy` verify."""
    plain = _named(theirs, Mode.PLAIN)
    if not _named(policy, Mode.VERIFIED) or not plain:
        return
    common = common_accounts.find(policy, theirs)
    if common.names:
        yield warning(
            Subject.MODE,
            f"{other}: {_quoted(plain)} runs in plain mode as accounts for which {path} wants signed work "
            f"({', '.join(common.names)}), so whoever controls its broker can write to their homes: let it in other "
            "accounts (allow_groups), or run it in verified mode too",
        )
    elif common.unknown:
        yield unknown(Subject.MODE, f"{other}: whether {_quoted(plain)} runs as accounts of {path}: {common.unknown}")
    else:
        yield ok(Subject.MODE, f"{other}: {_quoted(plain)} runs in plain mode, as other accounts than {path} lets in")
