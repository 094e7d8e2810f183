"""``twinlock configure``: a new endpoint's folder, with comments that an administrator can follow."""

import argparse
import json
import os
from importlib import resources
from typing import Any

from twinlock_broker.command_line import find_folder
from twinlock_broker.config.keys import MANAGER_KEYS, Key, read_keys
from twinlock_broker.errors import Fatal

MAPPING = "identity_mapping_config.json"
_EXAMPLES = f"""\
  twinlock configure --display-name "Cluster of the physics department" /etc/twinlock/endpoint

It makes config.yaml, user_config_template.yaml.j2, user_config_schema.json, user_environment.yaml and {MAPPING}.
Then edit the mapping (who may in) and the template (what they get), and run: twinlock check DIR
exit codes: 0 made; 73 it is there already, or can't be made; 78 a value isn't what its key has to be
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "configure",
        help="make the folder of a new endpoint",
        description="Make the folder of a new endpoint.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folder", metavar="DIR", help="the folder to make; its last part is the endpoint's name")
    made.add_argument("--display-name", metavar="TEXT", help="what users see in place of the folder's name")
    made.add_argument("--contact-email", metavar="TEXT", dest="email", help="whom users may write to")
    made.add_argument(
        "--auth-policy", metavar="UUID", dest="authentication_policy", help="Globus authentication policy"
    )
    made.add_argument("--subscription-id", metavar="UUID", help="Globus subscription")
    return made


def run(given: argparse.Namespace) -> int:
    """Make the folder; the exit code."""
    names = ("display_name", "email", "authentication_policy", "subscription_id")
    chosen = {name: getattr(given, name) for name in names if getattr(given, name) is not None}
    read_keys(MANAGER_KEYS, chosen, "the command line")
    path = find_folder(given.folder)
    try:
        path.mkdir(mode=0o755)
        for name, text in _files(chosen | {"identity_mapping_config_path": MAPPING}).items():
            (path / name).write_text(text)
            (path / name).chmod(0o644)
    except OSError as error:
        raise Fatal(
            os.EX_CANTCREAT, f"{path}: can't be made: {error.strerror}; nothing that is there was changed"
        ) from error
    template = path / "user_config_template.yaml.j2"
    print(f"{path} made. Next: edit {path / MAPPING} and {template}, then: twinlock check {path}")
    return os.EX_OK


def _files(chosen: dict[str, str]) -> dict[str, str]:
    examples = resources.files("twinlock_broker") / "examples"
    names = ("user_config_template.yaml.j2", "user_config_schema.json", "user_environment.yaml", MAPPING)
    return {"config.yaml": config(chosen)} | {name: (examples / name).read_text() for name in names}


def config(chosen: dict[str, str]) -> str:
    """config.yaml with all keys, each with its meaning; those that aren't `chosen` stand in comments."""
    head = "# The manager endpoint. Every key that there is; those in comments have the value that they have without.\n"
    return head + "".join(f"\n# {key.meaning}{_unit(key)}\n{_line(key, chosen)}\n" for key in MANAGER_KEYS)


def _line(key: Key, chosen: dict[str, str]) -> str:
    if key.name in chosen:
        return f"{key.name}: {json.dumps(chosen[key.name])}"
    return f"# {key.name}: {json.dumps(key.default)}"


def _unit(key: Key) -> str:
    return f" ({key.unit})" if key.unit else ""
