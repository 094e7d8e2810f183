"""``twinlock login``: the login of a person, for a broker that registers its endpoint as that person."""

import argparse
import os
import sys
from typing import Any

import globus_sdk

from twinlock_broker.command_line import add_command, add_state, find_folder, state_folder
from twinlock_broker.compute import registration
from twinlock_broker.compute.login import log_in, token_file
from twinlock_broker.config.folder import read_folder
from twinlock_broker.errors import Fatal

_EXAMPLES = """\
  sudo -u twinlock twinlock login /etc/twinlock/endpoint

Run it as the account of the broker. It shows an address; open it anywhere, log in, and paste the code that you get.
A client id and secret (GLOBUS_COMPUTE_CLIENT_ID, ..._SECRET, or systemd credentials) take precedence if both are set.
exit codes: 0 logged in; 66 no such folder; 73 the tokens can't be written; 75 Globus Auth can't be reached;
  77 it refuses the code
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(
        commands,
        "login",
        "log in the person as whom the broker registers its endpoint",
        _EXAMPLES,
        description="Log in with Globus and keep the tokens for the broker.",
    )
    made.add_argument("folder", metavar="DIR", help="endpoint folder, which names the service's environment")
    add_state(made)
    return made


def run(given: argparse.Namespace) -> int:
    """Log in and return the exit code."""
    folder = read_folder(find_folder(given.folder))
    path = token_file(state_folder(given))
    try:
        log_in(path, registration.environment(folder), _ask)
    except globus_sdk.AuthAPIError as error:
        text = f"Globus Auth refused the code ({error.http_status} {error.message}); run twinlock login again"
        raise Fatal(os.EX_NOPERM, text) from error
    except globus_sdk.NetworkError as error:
        raise Fatal(os.EX_TEMPFAIL, f"Globus Auth can't be reached: {error}; try again later") from error
    print(f"logged in; the tokens are in {path}")
    return os.EX_OK


def _ask(address: str) -> str:
    print(f"Open this address, log in, and paste the code here:\n\n{address}\n", flush=True)
    print("code: ", end="", flush=True)
    code = sys.stdin.readline().strip()
    if not code:
        raise Fatal(os.EX_NOPERM, "no code was given; nothing was changed")
    return code
