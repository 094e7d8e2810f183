"""`twinlock-service`: a local Compute service for the official SDK, the official agent and Twinlock's broker."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import argcomplete
import setproctitle
from yarl import URL

from twinlock_service.errors import StartError
from twinlock_service.users import commands as user_commands

EXIT_USAGE = 100
EXIT_SYSTEM = 111

DESCRIPTION = """\
A local Compute service: the REST calls that globus-compute-sdk, globus-compute-endpoint and twinlock-broker make, the
token calls of Globus Auth that globus-sdk makes, and RabbitMQ behind them.

`twinlock-service user` adds users and makes their tokens.
"""

EPILOG = """\
The users file is YAML, and closed to others (chmod 600). `twinlock-service user` writes it; clients, the RabbitMQ login
and settings are edited by hand. A change takes effect within a second or two.

  users:
    alice@site.example:
      id: 7b1f2f6e-0000-4000-8000-000000000001   # Globus identity uuid
      tokens: [...]                              # the digests of her bearer tokens
      name: Alice Example                        # optional, as are email, organization, administrator: true and
      linked: [{id: ..., username: ...}]         # her other identities
  clients:                                       # logins of managers: GLOBUS_COMPUTE_CLIENT_ID and _SECRET
    7b1f2f6e-0000-4000-8000-000000000002: {secret: ...}
  rabbitmq: {user: ..., password: ...}           # an administrator of the RabbitMQ that --amqp URL names
  service: {token_days: 30}                      # settings of the service

DIR/amqp.json (0600) has RabbitMQ's URLs with an administrator's login. A manager endpoint's commands wait in the queue
ep.<its uuid>.commands, an endpoint's tasks in ep.<its uuid>.tasks, an SDK user's results in
results.<identity uuid>.<task group uuid>; an endpoint publishes to the exchange ep.<its uuid>.

Exit codes: 0 stopped by a signal; 64-78 as in sysexits(3); 100 usage; 111 the system refused something.
"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{self.prog}: {message}; see {self.prog} --help\n")


def main() -> None:
    """Run the program with the arguments of the command line, and end the process."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str]) -> int:
    """Run the program with these arguments, and return its exit code. Raise `SystemExit` on a usage error."""
    made = parser()
    argcomplete.autocomplete(made)
    options = made.parse_args(arguments)
    try:
        if "run" in options:
            options.users = options.users or user_commands.DEFAULT_FILE
            options.run(options)
        else:
            _serve(made, options)
    except StartError as error:
        print(f"twinlock-service: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"twinlock-service: {error}", file=sys.stderr)
        return EXIT_SYSTEM
    return os.EX_OK


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    formatter = argparse.RawDescriptionHelpFormatter
    made = _Parser(prog="twinlock-service", description=DESCRIPTION, epilog=EPILOG, formatter_class=formatter)
    made.add_argument("--port", type=_port, default=5000, help="TCP port (default 5000, where the SDK looks)")
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1)")
    made.add_argument("--state", metavar="DIR", type=Path, help="folder for what must survive a restart; required")
    made.add_argument("--users", metavar="FILE", type=Path, help="users, tokens and clients, see below; required")
    made.add_argument(
        "--amqp",
        metavar="auto|URL",
        type=_amqp,
        help="auto (default): a private RabbitMQ node on loopback; or amqp[s]://HOST:PORT/VHOST",
    )
    made.add_argument(
        "--amqp-management",
        metavar="URL",
        type=_http,
        help="management API of the RabbitMQ that --amqp URL names (default: port 15672 on its host)",
    )
    made.add_argument(
        "--amqp-ports",
        metavar="PORTS",
        type=_ports,
        help="further ports on which clients reach the private node (default 443,5671,5672, as the hosted service has "
        "them, as far as they are free and the service may listen there); none: no others",
    )
    user_commands.add(made.add_subparsers(metavar="COMMAND", title="commands"))
    return made


def _serve(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    # Not for the commands, nor for tab completion: it imports most of the program.
    from twinlock_service.serve import Options, serve

    if options.state is None or options.users is None:
        parser.error("--state DIR and --users FILE are required")
    if options.amqp is None and options.amqp_management is not None:
        parser.error("--amqp-management needs --amqp URL: a private node has its own")
    if options.amqp is not None and options.amqp_ports is not None:
        parser.error("--amqp-ports is for the private node (--amqp auto): --amqp URL has the server's own ports")
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    # pika reports each step of each connection attempt; ours says what matters.
    logging.getLogger("pika").setLevel(logging.CRITICAL)
    # globus-compute-common logs what it doesn't know in messages, and whoever sends them chooses how much that is.
    logging.getLogger("globus_compute_common").setLevel(logging.CRITICAL)
    setproctitle.setproctitle(f"twinlock-service [port {options.port}]")
    values = {**vars(options), "state": options.state.absolute()}
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(serve(Options(**values)))


def _port(text: str) -> int:
    try:
        port = int(text)
    except ValueError:
        port = 0
    if not 0 < port < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a TCP port")
    return port


def _ports(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(_port(each) for each in text.split(","))


def _amqp(text: str) -> URL | None:
    if text == "auto":
        return None
    return _url(text, "amqp", "amqps")


def _http(text: str) -> URL:
    return _url(text, "http", "https")


def _url(text: str, *schemes: str) -> URL:
    url = URL(text)
    # The text is not repeated: it may hold a password.
    if url.scheme not in schemes or not url.host:
        raise argparse.ArgumentTypeError(f"not a URL like {schemes[0]}://HOST:PORT")
    if url.user or url.password:
        raise argparse.ArgumentTypeError("others can read a command line: the login belongs in the users file")
    return url


if __name__ == "__main__":
    main()
