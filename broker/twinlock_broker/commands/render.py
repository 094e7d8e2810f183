"""``twinlock render``: the configuration that a template gives with a user's options, without an endpoint."""

import argparse
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from twinlock_common.rendering import options, template, validate
from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.reserved import Reserved

from twinlock_broker.command_line import (
    USAGE_ERROR,
    add_command,
    find_folder,
    read_object,
    read_text,
    read_yaml_mapping,
)
from twinlock_broker.commands import mapped_identity
from twinlock_broker.config.folder import Folder, open_folder
from twinlock_broker.config.keys import MANAGER_HINTS, MANAGER_KEYS, read_keys
from twinlock_broker.errors import CommandError, Fatal

_EXAMPLES = """\
FILE may be - for standard input. Without --mapped-identity the template is rendered for your own account; in its FILE,
{"local": {"uname": ..., "uid": ...}, "globus": {"id": ...}}, what is left out is taken from your account as well.

  twinlock render -e /etc/twinlock/endpoint -o options.json
  echo '{"account_id": "physics"}' | twinlock render -t template.yaml.j2 -s schema.json -o -

exit codes: 0 rendered; 65 the options are refused, or the result isn't a configuration (it is printed anyway);
  66 a file is missing; 78 configuration; 100 usage
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "render",
        "show what a template makes of a user's options",
        _EXAMPLES,
        description="Print the configuration that a user endpoint would get.",
    )
    made.add_argument("-e", "--endpoint", metavar="DIR", help="endpoint folder to take the files from")
    made.add_argument("-t", "--template", metavar="FILE", help="template (YAML with Jinja)")
    made.add_argument("-o", "--user-options", metavar="FILE", help="a user's options (JSON)")
    made.add_argument("-s", "--user-schema", metavar="FILE", help="JSON schema for the options")
    reserved = made.add_argument_group("reserved variables")
    reserved.add_argument(
        "--parent-config", metavar="FILE", help="for _GC.parent_config (YAML, the keys of config.yaml)"
    )
    reserved.add_argument("--user-runtime", metavar="FILE", help="for _GC.user_runtime (JSON)")
    reserved.add_argument("--mapped-identity", metavar="FILE", help="for _GC.mapped_identity (JSON: local, globus)")
    return made


def run(given: argparse.Namespace) -> int:
    """Print the rendering and return the exit code. Raise `CommandError`."""
    try:
        return _render(given)
    except RenderingError as error:
        raise CommandError(error.text, error.detail) from error


def _render(given: argparse.Namespace) -> int:
    folder = open_folder(find_folder(given.endpoint)) if given.endpoint else None
    chosen = read_object(given.user_options) if given.user_options else {}
    options.check(chosen, _schema(given, folder))
    text, path = _template(given, folder)
    result = template.render(text, path.parent, chosen, _reserved(given, folder), str(path))
    print(result, end="" if result.endswith("\n") else "\n", flush=True)
    validate.check(result)
    return os.EX_OK


def _schema(given: argparse.Namespace, folder: Folder | None) -> dict[str, Any] | None:
    if given.user_schema:
        return read_object(given.user_schema)
    return folder.read_site().schema if folder else None


def _template(given: argparse.Namespace, folder: Folder | None) -> tuple[str, Path]:
    """Return the template's text and its path. The path's folder holds what the template may include."""
    if given.template:
        return read_text(given.template), Path(given.template)
    if folder is None:
        raise Fatal(USAGE_ERROR, "which template? Give -t FILE, or -e DIR for an endpoint's")
    return folder.read_site().template, folder.template_path


def _reserved(given: argparse.Namespace, folder: Folder | None) -> Reserved:
    described = read_object(given.mapped_identity) if given.mapped_identity else {}
    who, match = mapped_identity.read(described, given.mapped_identity or "")
    environment = folder.read_site().environment if folder else {}
    return Reserved(
        parent_config=_parent_config(given, folder),
        runtime=read_object(given.user_runtime) if given.user_runtime else {},
        account=who,
        identity=match.identity,
        environment={"HOME": who.home, "USER": who.name} | environment,
    )


def _parent_config(given: argparse.Namespace, folder: Folder | None) -> dict[str, Any]:
    """Return the settings of the folder, or the defaults, with the values that are given. Raise `Fatal` (78)."""
    base = folder or Folder(Path(), read_keys(MANAGER_KEYS, {}, ""), "")
    values = read_yaml_mapping(given.parent_config) if given.parent_config else {}
    checked = read_keys(MANAGER_KEYS, values, given.parent_config or "", MANAGER_HINTS)
    return replace(base, settings=base.settings | {name: checked[name] for name in values}).parent_config
