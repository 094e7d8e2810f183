"""``twinlock check``: all that would fail, before a user meets it."""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import find_folder, read_object
from twinlock_broker.commands import policy, sample
from twinlock_broker.config.folder import Folder, problems, read_folder
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.printable import printable_lines

_ANY = "00000000-0000-0000-0000-000000000000"
_EXAMPLES = """\
  twinlock check /etc/twinlock/endpoint
  twinlock check --options options.json --policy /etc/twinlock/spawner.toml /etc/twinlock/endpoint

It reads every file of the folder, renders the template with options made up from the schema (--options: with yours),
and reads the spawner's policy. Nothing is changed and nobody is asked over the network.
exit codes: 0 nothing would fail; 78 something would, each in a line; 66 there is no such folder
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look showed: `kind` is ok, FAIL, or note where it couldn't be told."""

    kind: str
    text: str


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="read an endpoint's folder and the spawner's policy, and say what would fail",
        description="Say all that would fail.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folder", metavar="DIR", help="endpoint folder")
    made.add_argument(
        "--options", metavar="FILE", help="a user's options to render the template with (JSON; - is stdin)"
    )
    made.add_argument(
        "--policy", metavar="FILE", type=Path, default=policy.DEFAULT, help="the spawner's policy (default %(default)s)"
    )
    made.add_argument(
        "--program",
        metavar="NAME",
        default="endpoint",
        help="the program that the broker asks for (default %(default)s)",
    )
    return made


def run(given: argparse.Namespace) -> int:
    """Print the findings; the exit code."""
    path = find_folder(given.folder)
    if not path.is_dir():
        raise Fatal(os.EX_NOINPUT, f"{path}: no such folder; name the one that holds config.yaml")
    options = read_object(given.options) if given.options else None
    failed = False
    for finding in (*_of_folder(path, options), *_of_policy(given.policy, given.program)):
        failed |= finding.kind == "FAIL"
        print(f"{finding.kind:<5}{printable_lines(finding.text)}")
    return os.EX_CONFIG if failed else os.EX_OK


def _of_folder(path: Path, options: dict[str, Any] | None) -> Iterator[Finding]:
    try:
        folder = read_folder(path)
    except Fatal as error:
        yield from (Finding("FAIL", line) for line in str(error).splitlines())
        yield Finding("note", "the other files of the folder: not looked at before that is mended")
        return
    yield Finding("ok", f"{path / 'config.yaml'}: keys and values")
    found = [Finding("FAIL", str(problem)) for problem in problems(folder)]
    yield from found or [Finding("ok", f"{path}: template, schema and environment can be read")]
    yield from _of_identity(folder)
    if not found:
        yield from _of_rendering(folder, options)


def _of_identity(folder: Folder) -> Iterator[Finding]:
    try:
        known = folder.endpoint_id(folder.path)
        yield Finding("ok", f"endpoint.json: {known}" if known else "no endpoint.json: a new endpoint is registered")
    except Fatal as error:
        yield Finding("FAIL", str(error))
    path = folder.mapping_path
    if path is None:
        yield Finding("note", "identity_mapping_config_path isn't set: only without root, the owner alone is served")
    elif path.is_file():
        try:
            Mapper(path, _ANY)
            yield Finding("ok", f"{path}: identity mapping")
        except Fatal as error:
            yield Finding("FAIL", str(error))


def _of_rendering(folder: Folder, options: dict[str, Any] | None) -> Iterator[Finding]:
    chosen = sample.options(folder) if options is None else options
    try:
        sample.render(folder, chosen)
        yield Finding("ok", f"{folder.template_path}: renders to a configuration with the options {chosen}")
    except CommandError as error:
        detail = f" [{error.detail}]" if error.detail else ""
        yield Finding("FAIL", f"{folder.template_path}: with the options {chosen}: {error.text}{detail}")


def _of_policy(path: Path, program: str) -> Iterator[Finding]:
    try:
        wrong = policy.problems(path, program)
    except OSError as error:
        yield Finding("note", f"{path}: not looked at: {error.strerror}; --policy names the spawner's policy")
        return
    yield from [Finding("FAIL", text) for text in wrong] or [Finding("ok", f"{path}: the spawner's policy")]
