"""``twinlock render``: what a user's options make of a template, without an endpoint."""

import argparse
import os
import pwd
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import USAGE_ERROR, find_folder, read_object, read_text, read_yaml_mapping
from twinlock_broker.config.folder import Folder, open_folder
from twinlock_broker.config.keys import MANAGER_KEYS, read_keys
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity import account
from twinlock_broker.identity.account import Account
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering import options, rendered, template
from twinlock_broker.rendering.template import Reserved

_NOBODY = "00000000-0000-0000-0000-000000000000"
_EXAMPLES = """\
FILE may be - for standard input. Without --mapped-identity the template is rendered for the account that you are.

  twinlock render -e /etc/twinlock/endpoint -o options.json
  echo '{"account_id": "physics"}' | twinlock render -t template.yaml.j2 -s schema.json -o -

exit codes: 0 rendered; 65 the options are refused, or the result is no configuration (it is printed all the same);
  66 a file is missing; 78 configuration; 100 usage
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "render",
        help="show what a user's options make of a template",
        description="Print the configuration that a user endpoint would get.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("-e", "--endpoint", metavar="DIR", help="endpoint folder to take the files from")
    made.add_argument("-t", "--template", metavar="FILE", help="template (YAML with Jinja)")
    made.add_argument("-o", "--user-options", metavar="FILE", help="a user's options (JSON)")
    made.add_argument("-s", "--user-schema", metavar="FILE", help="JSON schema for the options")
    reserved = made.add_argument_group("reserved variables")
    reserved.add_argument("--parent-config", metavar="FILE", help="for _GC.parent_config (YAML)")
    reserved.add_argument("--user-runtime", metavar="FILE", help="for _GC.user_runtime (JSON)")
    reserved.add_argument("--mapped-identity", metavar="FILE", help="for _GC.mapped_identity (JSON)")
    return made


def run(given: argparse.Namespace) -> int:
    """Print the rendering; the exit code."""
    folder = open_folder(find_folder(given.endpoint)) if given.endpoint else None
    chosen = read_object(given.user_options) if given.user_options else {}
    options.check(chosen, _schema(given, folder))
    text, path = _template(given, folder)
    result = template.render(text, path.parent, chosen, _reserved(given, folder), str(path))
    print(result, end="" if result.endswith("\n") else "\n", flush=True)
    rendered.check(result)
    return os.EX_OK


def _schema(given: argparse.Namespace, folder: Folder | None) -> dict[str, Any] | None:
    if given.user_schema:
        return read_object(given.user_schema)
    return folder.read_site().schema if folder else None


def _template(given: argparse.Namespace, folder: Folder | None) -> tuple[str, Path]:
    """The template's text and its path, in whose folder lies what it may include."""
    if given.template:
        return read_text(given.template), Path(given.template)
    if folder is None:
        raise Fatal(USAGE_ERROR, "which template? Give -t FILE, or -e DIR for that of an endpoint")
    return folder.read_site().template, folder.template_path


def _reserved(given: argparse.Namespace, folder: Folder | None) -> Reserved:
    mapped = read_object(given.mapped_identity) if given.mapped_identity else {}
    who = _account(mapped.get("local", {}), given.mapped_identity)
    environment = folder.read_site().environment if folder else {}
    return Reserved(
        parent_config=_parent_config(given, folder),
        runtime=read_object(given.user_runtime) if given.user_runtime else {},
        account=who,
        match=Match(who.name, mapped.get("globus", {}).get("id", _NOBODY)),
        environment={"HOME": who.home, "USER": who.name} | environment,
    )


def _parent_config(given: argparse.Namespace, folder: Folder | None) -> dict[str, Any]:
    """That of the folder, or of a folder without a config.yaml, with the values that are given."""
    defaults = folder or Folder(Path(), read_keys(MANAGER_KEYS, {}, ""), "")
    return defaults.parent_config | (read_yaml_mapping(given.parent_config) if given.parent_config else {})


def _account(local: dict[str, Any], source: str | None) -> Account:
    """The account that a `mapped_identity` describes; what it leaves out is the own account's."""
    own = account.look_up(pwd.getpwuid(os.getuid()).pw_name)
    try:
        return Account(
            name=str(local.get("uname", own.name)),
            uid=int(local.get("uid", own.uid)),
            gid=int(local.get("gid", own.gid)),
            groups=tuple(map(int, local.get("groups", own.groups))),
            gecos=str(local.get("gecos", own.gecos)),
            shell=str(local.get("shell", own.shell)),
            home=str(local.get("dir", own.home)),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise CommandError(f"{source}: 'local' has to describe an account: {error}") from error
