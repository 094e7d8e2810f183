"""``twinlock check``: what would fail, found before a user meets it, and what was checked for that."""

import argparse
import json
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from twinlock_signed import settings as signed
from twinlock_signed.errors import ConfigError

from twinlock_broker.checks import broker, mapping, modes, renderings, service, signed_work
from twinlock_broker.checks import policy as spawners
from twinlock_broker.checks.finding import MEANINGS, Finding, Kind, Subject, failure, ok, unknown, warning
from twinlock_broker.checks.mapping import Entry
from twinlock_broker.command_line import add_command, add_state, find_folder, read_object
from twinlock_broker.commands import policy
from twinlock_broker.config import placed, policies
from twinlock_broker.config.folder import Folder, problems, read_folder
from twinlock_broker.config.settings import Settings
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.printable import printable

_SHOWN = {Kind.OK: "ok", Kind.WARNING: "warning", Kind.FAILURE: "FAIL", Kind.UNKNOWN: "not looked at"}
_WIDTH = max(map(len, _SHOWN.values())) + 2
_SUBJECTS = "\n".join(f"  {subject:<14}{meaning}" for subject, meaning in MEANINGS.items())
_BY_CONFIG = (
    Subject.FILES,
    Subject.MAPPING,
    Subject.IDENTITY,
    Subject.RENDERING,
    Subject.ENDPOINT,
    Subject.REGISTRATION,
    Subject.LOGIN,
    Subject.SERVICE,
    Subject.VERIFIED,
)
"""What can't be checked without a good config.yaml."""

_EXAMPLES = f"""\
  twinlock check /etc/twinlock/endpoint
  twinlock check --identity ada@example.org --options options.json /etc/twinlock/endpoint
  twinlock check --json --offline /etc/twinlock/endpoint

It checks the following, and prints a line for each finding: ok, warning, FAIL, or not looked at, with the reason. It
checks nothing else: for example, it asks no batch scheduler. It changes nothing. Run it as root before the first start.

{_SUBJECTS}

--json prints one object: "folder", a text; "failed", whether anything would fail; "findings", a list of objects with
"kind" ("ok", "warning", "failure", "not looked at"), "subject" (a word of the list above) and "text".
exit codes: 0 nothing would fail, there may be warnings; 78 something would; 66 a folder or file doesn't exist, or
  can't be read; 65 a file on the command line is invalid
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "check",
        "check an endpoint's folder, login and policy, and report what would fail",
        _EXAMPLES,
        description="Report what would fail, and what was checked.",
    )
    made.add_argument("folder", metavar="DIR", help="endpoint folder")
    made.add_argument(
        "--options", metavar="FILE", help="a user's options to render the template with (JSON; - is stdin)"
    )
    made.add_argument(
        "--identity",
        metavar="IDENTITY",
        action="append",
        default=[],
        help="an identity to try the mapping on: a username, or a file with a person's identity document or a list of "
        "them (JSON); may be given more than once",
    )
    made.add_argument(
        "--policy",
        metavar="FILE",
        type=Path,
        help=f"the spawner's policy (default: spawner.toml beside broker.yaml, else {policy.DEFAULT})",
    )
    made.add_argument(
        "--program",
        metavar="NAME",
        help="the program that the broker asks for (default: the one in broker.yaml, else endpoint)",
    )
    add_state(made)
    made.add_argument("--offline", action="store_true", help="ask neither Globus Auth nor the service")
    made.add_argument("--json", action="store_true", help="print one JSON object, see below")
    return made


def run(given: argparse.Namespace) -> int:
    """Print the findings and return the exit code."""
    path = find_folder(given.folder)
    findings = _look(path, given)
    failed = _print_json(path, findings) if given.json else _print_lines(findings)
    return os.EX_CONFIG if failed else os.EX_OK


def _print_lines(findings: Iterable[Finding]) -> bool:
    """Print each finding as it comes, and return whether one is a failure."""
    failed = False
    for finding in findings:
        failed |= finding.kind is Kind.FAILURE
        print(f"{_SHOWN[finding.kind]:<{_WIDTH}}{finding.subject}: {printable(finding.text)}", flush=True)
    return failed


def _print_json(path: Path, findings: Iterable[Finding]) -> bool:
    rows = [{"kind": finding.kind, "subject": finding.subject, "text": finding.text} for finding in findings]
    failed = any(row["kind"] == Kind.FAILURE for row in rows)
    print(json.dumps({"folder": str(path), "failed": failed, "findings": rows}, indent=2))
    return failed


def _look(path: Path, given: argparse.Namespace) -> Iterator[Finding]:
    options = read_object(given.options) if given.options else None
    place = placed.find(path, given.state)
    policy_path = given.policy or place.policy
    settings = broker.settings(place, path)
    program = given.program or (settings.program if isinstance(settings, Settings) else "endpoint")
    try:
        folder = read_folder(path)
    except Fatal as error:
        if error.status == os.EX_NOINPUT:
            raise
        yield from (failure(Subject.CONFIG, line) for line in str(error).splitlines())
        for subject in _BY_CONFIG:
            yield unknown(subject, "config.yaml has to be corrected first")
    else:
        what = "keys and values" if folder.source else "isn't there, or is empty: all keys have their defaults"
        yield ok(Subject.CONFIG, f"{path / 'config.yaml'}: {what}")
        groups = settings.allow_groups if isinstance(settings, Settings) else ()
        entry = Entry(groups, policies.read(policy_path))
        argv = spawners.endpoint_program(policy_path, program)
        own = _verified_folder(folder, argv)
        yield from _of_files(folder, own)
        yield from mapping.check(folder.mapping_path, given.identity, entry)
        yield from _of_renderings(folder, own, options, argv)
        yield from service.check(folder, place, offline=given.offline)
        yield from signed_work.check(policy_path, folder, place)
    yield from broker.check(place.config, settings, policy_path)
    yield from spawners.check(policy_path, program)
    yield from modes.check(policy_path)


def _verified_folder(folder: Folder, argv: list[str] | str) -> Folder | str:
    """Return what the program's endpoints render: the broker's folder, or in verified mode root's.

    A text in its place says why that isn't known.
    """
    file = policies.verified_file(argv) if isinstance(argv, list) else None
    try:
        return folder if file is None else signed_work.folder_of(signed.load(file), folder)
    except ConfigError:
        return f"{file} has to be corrected first"


def _of_files(folder: Folder, own: Folder | str) -> Iterator[Finding]:
    wrong = [failure(Subject.FILES, str(problem)) for problem in problems(folder)]
    yield from wrong or [ok(Subject.FILES, f"{folder.path}: template, schema and environment can be read")]
    path = folder.environment_path
    if isinstance(own, Folder) and own is not folder and own.environment_path == path:
        return  # users' endpoints read it themselves
    if path.exists() and path.stat().st_mode & stat.S_IROTH and folder.path.stat().st_mode & stat.S_IXOTH:
        text = "every account of this host can read it, and it may hold secrets: chown root:twinlock and chmod 0640"
        yield warning(Subject.FILES, f"{path}: {text}")


def _of_renderings(
    folder: Folder, own: Folder | str, options: dict[str, Any] | None, argv: list[str] | str
) -> Iterator[Finding]:
    """Check what the broker renders for a start, and what the endpoint loads in the end."""
    if own is folder:
        yield from _rendered(folder, options, argv)
        return
    if isinstance(own, str):
        yield from _rendered(folder, options, own)
        return
    if (own.template_path, own.schema_path) != (folder.template_path, folder.schema_path):
        yield from _rendered(folder, options, f"in verified mode endpoints render {own.template_path} themselves")
    yield from _rendered(own, options, argv, verified=True)


def _rendered(
    folder: Folder, options: dict[str, Any] | None, program: list[str] | str, *, verified: bool = False
) -> Iterator[Finding]:
    if any(problems(folder)):
        for subject in (Subject.RENDERING, Subject.ENDPOINT):
            yield unknown(subject, "the files have to be corrected first")
        return
    try:
        yield from renderings.check(folder, options, program, verified=verified)
    except CommandError as error:  # a file that has just changed
        yield failure(Subject.RENDERING, f"{error.text}{f' [{error.detail}]' if error.detail else ''}")
