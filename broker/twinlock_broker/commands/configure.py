"""``twinlock configure``: an endpoint folder, new with explaining comments, or from the agent's folder and back."""

import argparse
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

from twinlock_common.keys import Key

from twinlock_broker.command_line import USAGE_ERROR, add_command, find_folder
from twinlock_broker.commands import policy
from twinlock_broker.config.keys import MANAGER_KEYS, read_keys
from twinlock_broker.errors import Fatal
from twinlock_broker.migration import from_globus, service_account, to_globus
from twinlock_broker.migration.service_account import ServiceAccount

MAPPING = "identity_mapping_config.json"
_EXAMPLES = f"""\
  twinlock configure --display-name "Cluster of the physics department" /etc/twinlock/endpoint
  twinlock configure --from-globus ~root/.globus_compute/cluster /etc/twinlock/endpoint
  twinlock configure --to-globus ~root/.globus_compute/cluster /etc/twinlock/endpoint

It makes config.yaml, user_config_template.yaml.j2, user_config_schema.json, user_environment.yaml and {MAPPING}.
Only root and the broker's account may read them: user_environment.yaml may hold secrets, and nobody else needs them.
Then edit the mapping (who gets in) and the template (what they get), and run: twinlock check DIR

--from-globus makes DIR from the folder of a globus-compute-endpoint that runs as root, and says what it did and what to
do next. The endpoint keeps its uuid. OLD and its unit aren't changed. --to-globus writes what was changed in DIR since
then back into OLD; what it replaces there is kept as NAME.before, the next time as NAME.before.2.
exit codes: 0 made; 66 OLD or one of its files doesn't exist; 67 there is no account for the broker; 73 DIR exists
  already, or can't be made; 78 a key has a wrong value, or one that can't be carried over; 100 usage
"""
_NEW = ("display_name", "email", "authentication_policy", "subscription_id")


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "configure",
        "make an endpoint folder: a new one, or from that of globus-compute-endpoint",
        _EXAMPLES,
        description="Make an endpoint folder: a new one, or from that of globus-compute-endpoint and back.",
    )
    made.add_argument("folder", metavar="DIR", help="the folder to make; its last part is the endpoint's name")
    made.add_argument("--display-name", metavar="TEXT", help="what users see instead of the folder's name")
    made.add_argument("--contact-email", metavar="TEXT", dest="email", help="where users can send questions")
    made.add_argument(
        "--auth-policy", metavar="UUID", dest="authentication_policy", help="Globus authentication policy"
    )
    made.add_argument("--subscription-id", metavar="UUID", help="Globus subscription")
    _add_migration(made)
    return made


def _add_migration(made: argparse.ArgumentParser) -> None:
    direction = made.add_mutually_exclusive_group()
    direction.add_argument("--from-globus", metavar="OLD", help="make DIR from this folder of globus-compute-endpoint")
    direction.add_argument("--to-globus", metavar="OLD", help="write DIR's changes back into this folder")
    made.add_argument(
        "--policy",
        metavar="FILE",
        type=Path,
        default=policy.DEFAULT,
        help="the spawner's policy, which names the broker's account (default %(default)s)",
    )
    group = made.add_argument_group("with --from-globus and --to-globus")
    group.add_argument(
        "--state",
        metavar="DIR",
        type=Path,
        default=Path("/var/lib/twinlock"),
        help="the broker's state folder (default %(default)s)",
    )
    group.add_argument(
        "--logs",
        metavar="DIR",
        type=Path,
        default=Path("/var/log/twinlock-broker"),
        help="the broker's folder for the audit log of a high assurance endpoint (default %(default)s)",
    )
    group.add_argument(
        "--unit", metavar="FILE", type=Path, help="OLD's systemd unit (default: as enable-on-boot names it)"
    )


def run(given: argparse.Namespace) -> int:
    """Make the folder and return the exit code."""
    chosen = {name: getattr(given, name) for name in _NEW if getattr(given, name) is not None}
    read_keys(MANAGER_KEYS, chosen, "the command line")
    if given.from_globus or given.to_globus:
        return _migrate(given, chosen)
    return _make(find_folder(given.folder), chosen, given.policy)


def _migrate(given: argparse.Namespace, chosen: dict[str, str]) -> int:
    if chosen:
        raise Fatal(
            USAGE_ERROR, f"{', '.join(chosen)}: for a new folder only; edit {given.folder}/config.yaml afterwards"
        )
    places = from_globus.Places(Path(given.folder).absolute(), given.state, given.logs, given.policy, given.unit)
    if given.from_globus:
        print(from_globus.migrate(find_folder(given.from_globus), places))
    else:
        print(to_globus.migrate(find_folder(given.to_globus), places))
    return os.EX_OK


def _make(path: Path, chosen: dict[str, str], policy_file: Path) -> int:
    account, to_do = _account(policy_file, path)
    try:
        account.make_folder(path)
        for name, text in _files(chosen | {"identity_mapping_config_path": MAPPING}).items():
            account.write(path / name, text.encode())
    except OSError as error:
        raise Fatal(
            os.EX_CANTCREAT, f"{path}: can't be made: {error.strerror}; no existing file was changed"
        ) from error
    template = path / "user_config_template.yaml.j2"
    print(f"{path} made. Next: edit {path / MAPPING} and {template}, then: twinlock check {path}")
    if to_do:
        print(to_do)
    return os.EX_OK


def _account(policy_file: Path, path: Path) -> tuple[ServiceAccount, str]:
    """Return whose the files are, and what is left to do if the broker has no account yet.

    Without that account they are root's alone.
    """
    try:
        return service_account.find(policy_file), ""
    except Fatal as error:
        name = service_account.account_name(policy_file)
        return service_account.own(), f"Only root can read it so far: {error}; then: chgrp -R {name} {path}"


def _files(chosen: dict[str, str]) -> dict[str, str]:
    examples = resources.files("twinlock_broker") / "examples"
    names = ("user_config_template.yaml.j2", "user_config_schema.json", "user_environment.yaml", MAPPING)
    return {"config.yaml": config(chosen)} | {name: (examples / name).read_text() for name in names}


def config(chosen: dict[str, str]) -> str:
    """Return config.yaml with all keys, each with its meaning. Keys that aren't `chosen` stand in comments."""
    head = "# The manager endpoint, with every key that there is. Those in comments have their defaults.\n"
    return head + "".join(f"\n# {key.meaning}{_unit(key)}\n{_line(key, chosen)}\n" for key in MANAGER_KEYS)


def _line(key: Key, chosen: dict[str, str]) -> str:
    if key.name in chosen:
        return f"{key.name}: {json.dumps(chosen[key.name])}"
    return f"# {key.name}: {json.dumps(key.default)}"


def _unit(key: Key) -> str:
    return f" ({key.unit})" if key.unit else ""
