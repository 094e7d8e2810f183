"""``twinlock-broker --endpoint-dir DIR``: the command line and the exit codes."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from twinlock_broker import descriptors, logs
from twinlock_broker.broker import serve
from twinlock_broker.command_line import Parser
from twinlock_broker.compute.login import load_login
from twinlock_broker.config.folder import open_folder
from twinlock_broker.config.keys import BROKER_KEYS, MANAGER_KEYS, describe
from twinlock_broker.config.lock import locked
from twinlock_broker.config.settings import settle
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable_lines
from twinlock_broker.privileges import refuse_own_privileges

_HELP = """\
The unprivileged half of a Twinlock manager endpoint. It registers with the Compute service, maps identities,
renders the template, and asks the spawner to start user endpoints. It never runs a task and refuses to run as root.

DIR is an endpoint folder as globus-compute-endpoint makes it; nothing in it has to be changed:
  config.yaml, user_config_template.yaml.j2 (or .yaml), user_config_schema.json, user_environment.yaml,
  the identity mapping that config.yaml names, endpoint.json. Relative paths are relative to DIR.

It registers as the client in the systemd credentials client_id and client_secret, else as the one in the environment's
GLOBUS_COMPUTE_CLIENT_ID and GLOBUS_COMPUTE_CLIENT_SECRET, else as the person who ran `twinlock login`.
"""
_EPILOG = f"""\
keys of DIR/config.yaml:
{describe(MANAGER_KEYS)}

keys of --config FILE (the command line wins):
{describe(BROKER_KEYS)}

standard output: one line, "twinlock-broker ready, endpoint UUID", when it is registered, connected to the spawner and
consuming commands. Log: standard error, one line per event. SIGTERM: stop consuming, tell the service, and leave the
user endpoints alone.

exit codes: 0 stopped; 64 no endpoint named; 65 the service refuses the configuration; 66 a file is missing;
  69 the service has the endpoint locked, or doesn't know it; 70 internal error; 73 can't write the state;
  75 the service can't be reached, or another broker uses the state folder; 76 another version of the spawner;
  77 privileges, credentials or the spawner's owner are wrong; 78 configuration; 100 usage
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = Parser(
        prog="twinlock-broker",
        description=_HELP,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--endpoint-dir", type=Path, metavar="DIR", help="the endpoint's folder")
    made.add_argument(
        "--spawner-socket", type=Path, metavar="PATH", help="the spawner's socket (default /run/twinlock/spawner.sock)"
    )
    made.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="folder for what must survive a restart (default $STATE_DIRECTORY, else DIR)",
    )
    made.add_argument("--config", type=Path, metavar="FILE", help="YAML file with the broker's own keys, see below")
    return made


def main() -> int:
    """Run the broker and return the exit code."""
    given = parser().parse_args()
    os.umask(0o077)
    try:
        refuse_own_privileges()
        descriptors.take_all()
        chosen = {"endpoint_dir": given.endpoint_dir, "spawner_socket": given.spawner_socket, "state_dir": given.state}
        settings = settle(given.config, chosen)
        folder = open_folder(settings.endpoint_dir)
        recent = logs.set_up(folder.settings["debug"])
        with locked(settings.state):
            asyncio.run(serve(settings, folder, load_login(settings.state), recent))
    except Fatal as error:
        print(f"twinlock-broker: {printable_lines(str(error))}", file=sys.stderr)
        return error.status
    except Exception:
        logging.getLogger("twinlock_broker").exception("internal error; please report it")
        return os.EX_SOFTWARE
    return os.EX_OK


if __name__ == "__main__":
    sys.exit(main())
