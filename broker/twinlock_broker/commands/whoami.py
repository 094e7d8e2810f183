"""``twinlock whoami``: the identity under which the broker would register, as the service sees it."""

import argparse
import os
from typing import Any

from twinlock_broker.command_line import add_command, add_state, find_folder
from twinlock_broker.compute import inquiry
from twinlock_broker.config import placed
from twinlock_broker.config.folder import open_folder
from twinlock_broker.printable import printable

_EXAMPLES = """\
  twinlock whoami /etc/twinlock/endpoint

It uses the client in the folder `client` beside broker.yaml, which systemd gives the broker, else that of
GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET, else the person who ran twinlock login. Run as root, it
asks as the account that owns the state folder, or as nobody.

exit codes: 0 the login works; 66 a file can't be read; 69, 75 the service refuses, or can't be reached; 77 there is
  no login, or it is wrong
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "whoami",
        "show as whom the broker logs in",
        _EXAMPLES,
        description="Log in as the broker would, and print who that is and all identities of that login.",
    )
    made.add_argument("folder", metavar="DIR", help="endpoint folder, which names the service's environment")
    add_state(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Print the login and return the exit code."""
    folder = open_folder(find_folder(given.folder))
    place = placed.find(folder.path, given.state)
    login = inquiry.find_login(place)
    answer = inquiry.ask(folder, login, place.state)
    if answer.refused is not None:
        raise answer.refused
    print(login.name)
    for identity in answer.identities:
        print(f"identity {printable(identity)}")
    return os.EX_OK
