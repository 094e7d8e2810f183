"""The command line: `twinlock-endpoint [--agent PROGRAM | --verified FILE] NAME`, or with `--check` at its end."""

import re
from dataclasses import dataclass
from pathlib import Path

from twinlock_common.document import Document, DocumentError

from twinlock_endpoint.errors import UsageError

_UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME = re.compile(rf"uep\.({_UUID})\.({_UUID})")
# What the agent's manager calls, the second one for users whose SDK is older than 4.10.
_AGENT_COMMANDS = (["_start-user-endpoint"], ["start"])


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of the command line."""

    name: str
    """The endpoint's name, `uep.MANAGER.ENDPOINT` with both uuids."""
    endpoint_id: str
    """The user endpoint's uuid."""
    manager_id: str
    """The manager endpoint's uuid."""
    agent: Path | None = None
    """The official agent's program, which is to be the endpoint in place of ours."""
    verified: Path | None = None
    """Root's file for signed work, of an endpoint that runs nothing else."""


def parse(argv: list[str]) -> Arguments:
    """Read the command line.

    The agent's manager has a word before the name, and may have some after it.

    Raises:
        UsageError: it isn't what a manager endpoint gives.
    """
    match argv[1:]:
        case ["--agent", program, name] if Path(program).is_absolute():
            return Arguments(*_checked(name), Path(program))
        case ["--verified", file, name] if Path(file).is_absolute():
            return Arguments(*_checked(name), verified=Path(file))
        case [word, name, *_] if [word] in _AGENT_COMMANDS:
            return Arguments(*_checked(name))
        case [name]:
            return Arguments(*_checked(name))
    raise _usage()


def parse_check(argv: list[str]) -> Path | None:
    """Read the command line `[--verified FILE] --check`, and return the file. Raise `UsageError` for another one."""
    match argv[1:]:
        case ["--check"]:
            return None
        case ["--verified", file, "--check"] if Path(file).is_absolute():
            return Path(file)
    raise _usage()


def check(given: Arguments, told: Document) -> Document:
    """Return the document. Raise `DocumentError` if it is for another endpoint than the command line."""
    if told.endpoint_id.lower() != given.endpoint_id:
        raise DocumentError("The start document is for another endpoint than the one that was to be started.")
    return told


def _checked(name: str) -> tuple[str, str, str]:
    match = _NAME.fullmatch(name)
    if match is None:
        raise _usage()
    return match[0], match[2], match[1]


def _usage() -> UsageError:
    return UsageError(
        "usage: twinlock-endpoint [--agent PROGRAM | --verified FILE] "
        "uep.<manager endpoint's uuid>.<user endpoint's uuid>\n"
        "It is started by twinlock-spawner, with a document on standard input. "
        "twinlock-endpoint [--verified FILE] --check is for twinlock check."
    )
