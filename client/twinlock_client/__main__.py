"""The command `twinlock-client`: what users do about signed work besides submitting it."""

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from twinlock_signed.errors import Refused

from twinlock_client import printable

COMMANDS = ("check", "enroll", "delegate", "revoke", "show")

_USAGE = 100
_INTERRUPTED = 130

_DESCRIPTION = """\
Signed work: only you can have code run as your account, and a result can't run code on your computer.

In your program, replace globus_compute_sdk's Executor by twinlock_client's SignedExecutor. This command does the rest.
"""

_EPILOG = """\
twinlock-client COMMAND --help tells more, with an example.

files: ~/.config/twinlock-client/enrolled has the keys that you have enrolled;
  ~/.local/state/twinlock-client what you have delegated and submitted. None of it is secret.
exit codes: 0 done; 1 a check has failed; 65 something was refused; 74 a file can't be read or written; 100 usage;
  130 Ctrl-C
"""


class Parser(argparse.ArgumentParser):
    """Ends with the exit code for a usage error."""

    def error(self, message: str) -> NoReturn:
        """Tell what is wrong in the command line."""
        self.exit(_USAGE, f"{self.prog}: {printable.line(message)}; see {self.prog} --help\n")


def parser() -> argparse.ArgumentParser:
    """Return the command line."""
    made = Parser(
        prog="twinlock-client",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"twinlock-client {_version()}")
    commands = made.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name in COMMANDS:
        command = importlib.import_module(f"twinlock_client.commands.{name}")
        command.add(commands).set_defaults(run=command.run)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand and return the exit code."""
    options = parser().parse_args(arguments)
    try:
        status: int = options.run(options)
        print(end="", flush=True)
    except Refused as error:
        print(f"twinlock-client: {printable.lines(str(error))}", file=sys.stderr)
        return os.EX_DATAERR
    except KeyboardInterrupt:
        print("\ntwinlock-client: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except OSError as error:
        place = error.filename or "the output"
        print(f"twinlock-client: {printable.line(str(place))}: {error.strerror or error}", file=sys.stderr)
        return os.EX_IOERR
    return status


def _version() -> str:
    try:
        return importlib.metadata.version("twinlock-client")
    except importlib.metadata.PackageNotFoundError:  # run from its sources
        return "of the sources"


if __name__ == "__main__":
    sys.exit(main())
