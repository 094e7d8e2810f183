"""``twinlock whoami``: as whom the broker would register, by the service's word."""

import argparse
import os
from typing import Any

from twinlock_broker.command_line import add_state, find_folder, state_folder
from twinlock_broker.compute import register
from twinlock_broker.compute.login import load_login
from twinlock_broker.config.folder import open_folder
from twinlock_broker.printable import printable

_EXAMPLES = """\
  GLOBUS_COMPUTE_CLIENT_ID=... GLOBUS_COMPUTE_CLIENT_SECRET=... twinlock whoami /etc/twinlock/endpoint

exit codes: 0 the login works; 69, 75 the service refuses, or can't be reached; 77 there is no login, or it is wrong
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """The subcommand's part of the command line."""
    made: argparse.ArgumentParser = commands.add_parser(
        "whoami",
        help="show as whom the broker logs in",
        description="Log in as the broker would, and print who that is, with all identities.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("folder", metavar="DIR", help="endpoint folder, which names the service's environment")
    add_state(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Print the login; the exit code."""
    folder, login = open_folder(find_folder(given.folder)), load_login(state_folder(given))
    found = register.identities(folder, login)
    print(login.name)
    for identity in sorted(found):
        print(f"identity {printable(identity)}")
    return os.EX_OK
