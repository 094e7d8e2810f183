"""`twinlock-client delegate`: sign a delegation ahead of time, for a program that runs without the user."""

import argparse
import json
from datetime import datetime
from pathlib import Path

from twinlock_signed.errors import Refused

from twinlock_client import delegations, printable, ssh_keys, user
from twinlock_client.commands import arguments
from twinlock_client.records import issued

_HOUR = 3600

_DETAILS = """\
FILE will have a session key: who reads it can submit work as you until the delegation expires, with these options and
no others. Only you can read the file. Programs use it one at a time, as SignedExecutor(delegation="FILE").

  twinlock-client delegate ada@cluster.example.org 11111111-2222-4333-8444-555555555555 tonight --hours 12
"""


def add(commands: arguments.Commands) -> argparse.ArgumentParser:
    """Add the subcommand."""
    made = arguments.command(commands, "delegate", "sign ahead of time, for a program that runs without you", _DETAILS)
    arguments.add_user(made)
    arguments.add_endpoint(made)
    made.add_argument("file", metavar="FILE", type=Path, help="the file to be made")
    arguments.add_key(made)
    made.add_argument("--options", metavar="FILE", type=Path, help="JSON file with the user_endpoint_config")
    made.add_argument("--hours", metavar="N", type=float, default=24.0, help="for so long (default 24)")
    return made


def run(options: argparse.Namespace) -> int:
    """Write the file. Raise `Refused` or `OSError` if that can't be."""
    from twinlock_client.sdk.client import user_runtime  # loads the SDK, which takes a second

    account, manager = user.read(options.user), user.read_endpoint(options.endpoint)
    seconds = _seconds(options.hours)
    delegations.check_new(options.file)
    sign = ssh_keys.choose(options.key)
    made = delegations.make(account, manager, _options(options.options), user_runtime(), seconds, sign)
    delegations.save(made, options.file)
    issued.add(made.said)
    until = datetime.fromtimestamp(made.said.expires).strftime("%Y-%m-%d %H:%M")
    print(f"{printable.line(str(options.file))}: delegation {made.said.id} for {account} at {manager}, until {until}")
    return 0


def _seconds(hours: float) -> int:
    if not 1 <= hours * _HOUR <= delegations.LONGEST:  # nor is it any number
        raise Refused(f"--hours {hours}: a delegation is valid for a second or more, and for ten years or less")
    return int(hours * _HOUR)


def _options(path: Path | None) -> dict[str, object]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise Refused(f"{path}: it is not JSON ({error}); write the options as an object") from None
    if type(found) is not dict:
        raise Refused(f"{path}: it is not a JSON object; write the options as one")
    return found
