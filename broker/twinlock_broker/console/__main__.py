"""``twinlock-console --config FILE``: the command line and the exit codes."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from aiohttp import web
from twinlock_common.notify import notify

from twinlock_broker.command_line import Parser
from twinlock_broker.config.keys import describe
from twinlock_broker.console.app import Console, make_app
from twinlock_broker.console.history import Clock, History
from twinlock_broker.console.keys import CONSOLE_KEYS, Settings, read_settings
from twinlock_broker.console.listening import listen
from twinlock_broker.console.secret_file import read_secret
from twinlock_broker.console.snapshot import Snapshot
from twinlock_broker.console.source import follow
from twinlock_broker.console.stream import Stream
from twinlock_broker.console.viewer import Viewers
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable_lines
from twinlock_broker.privileges import refuse_own_privileges

_HELP = """\
A web page with endpoints, starts and failures, live: administrators see everybody's, users their own.
It stands behind the site's own web server, which has people log in and names their accounts in a header. It only reads:
nobody can stop an endpoint or change anything with it.
"""
_EPILOG = f"""\
keys of --config FILE:
{describe(CONSOLE_KEYS)}

The broker answers the accounts that the key readers of broker.yaml names, and no others.

standard output: one line, "twinlock-console ready on ADDRESS". Log: standard error.

exit codes: 0 stopped; 66 a file is missing; 67 there is no such group; 70 internal error; 73 it can't listen there;
  77 it has privileges, or the secret's file is everybody's; 78 configuration; 100 usage
"""

_SHUTDOWN = 1.0  # seconds for connections to end; those with events never do by themselves


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = Parser(
        prog="twinlock-console",
        description=_HELP,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--config", type=Path, metavar="FILE", help="YAML file with the keys below; without it, defaults")
    return made


def main() -> int:
    """Run the console and return the exit code."""
    given = parser().parse_args()
    os.umask(0o077)
    logging.basicConfig(format="%(levelname)s %(message)s", level=logging.INFO)
    # It has a traceback for each request that isn't HTTP, so anybody could fill the log. We log our own errors.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    try:
        refuse_own_privileges("console", "twinlock-console")
        settings = read_settings(given.config)
        asyncio.run(_serve(settings))
    except Fatal as error:
        print(f"twinlock-console: {printable_lines(str(error))}", file=sys.stderr)
        return error.status
    except Exception:
        logging.getLogger("twinlock_broker").exception("internal error; please report it")
        return os.EX_SOFTWARE
    return os.EX_OK


async def _serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT. Raise `Fatal`."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    viewers = Viewers(settings, read_secret(settings.proxy_secret_file))
    history = History(settings.history, Clock())
    stream = Stream(Snapshot(None, "the broker wasn't asked yet", history))
    runner = web.AppRunner(
        make_app(settings, Console(viewers, stream), viewers), access_log=None, shutdown_timeout=_SHUTDOWN
    )
    following = asyncio.create_task(follow(settings.broker_socket, history, stream))
    stopped = asyncio.create_task(stop.wait())
    try:
        await listen(runner, settings)
        print(f"twinlock-console ready on {settings.listen}", flush=True)
        notify("READY=1")
        await asyncio.wait((following, stopped), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (following, stopped):
            task.cancel()
        await runner.cleanup()
    if not stop.is_set():
        following.result()


if __name__ == "__main__":
    sys.exit(main())
