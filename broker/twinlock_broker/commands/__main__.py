"""``twinlock COMMAND``: the subcommands, and the exit codes that all of them have."""

import argparse
import importlib
import importlib.metadata
import io
import os
import sys
from collections.abc import Sequence

import argcomplete

from twinlock_broker.command_line import Parser
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.printable import printable_lines

_SETTING_UP = ("configure", "check", "render", "map", "login", "logout", "whoami", "list", "delete", "verified")
_RUNNING = ("status", "top", "trace", "stop", "block", "unblock", "drain", "resume", "my", "canary")
COMMANDS = (*_SETTING_UP, *_RUNNING)

_MODULES = {"map": "map_identity", "list": "list_folders"}
"""Modules that aren't named for their command, since Python uses the word for something else."""

_INTERRUPTED = 130
"""The exit code after Ctrl-C, as in a shell."""

_EPILOG = """\
twinlock COMMAND --help tells more, with examples; so does the manual page twinlock-COMMAND(8).
Tab completion for bash: eval "$(register-python-argcomplete twinlock)"

exit codes: 0 done; 64-78 as in sysexits.h (65 bad data, 66 a file is missing, 67 nobody is mapped, 69 the service
  refuses, 73 can't write, 74 the output can't be written, 75 the service can't be reached, 77 no login, 78
  configuration); 100 usage; 130 Ctrl-C
"""


def parser(names: Sequence[str] = COMMANDS) -> argparse.ArgumentParser:
    """Return the command line of these subcommands.

    Each subcommand imports what it needs, so that the others start without it.
    """
    made = Parser(
        prog="twinlock",
        description="Set up, check and inspect a Twinlock manager endpoint.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--version", action="version", version=f"twinlock {importlib.metadata.version('twinlock')}")
    commands = made.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)
    for name in names:
        command = importlib.import_module(f"twinlock_broker.commands.{_MODULES.get(name, name)}")
        command.add(commands).set_defaults(run=command.run)
    return made


def main() -> int:
    """Run a subcommand and return the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # not if it is closed
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be in any encoding
    try:
        status = _run()
        print(end="", flush=True)
    except Fatal as error:
        print(f"twinlock: {printable_lines(str(error))}", file=sys.stderr)
        return error.status
    except CommandError as error:
        text = f"{error.text} [{error.detail}]" if error.detail else error.text
        print(f"twinlock: {printable_lines(text)}", file=sys.stderr)
        return os.EX_DATAERR
    except KeyboardInterrupt:
        print("\ntwinlock: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # whoever reads our output has seen enough
        _drop_output()
        return os.EX_OK
    except OSError as error:  # mostly of writing: the commands themselves report other failures
        _drop_output()
        print(f"twinlock: {error.filename or 'the output'}: {error.strerror or error}", file=sys.stderr)
        return os.EX_IOERR
    return status


def _run() -> int:
    asked = [name for name in COMMANDS if sys.argv[1:2] == [name]]
    made = parser(asked or COMMANDS)
    argcomplete.autocomplete(made)
    try:
        options = made.parse_args()
    except SystemExit as ended:  # after help, version, or usage
        return int(ended.code or os.EX_OK)
    status: int = options.run(options)
    return status


def _drop_output() -> None:
    """Let what is still to be printed go nowhere: Python would try once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


if __name__ == "__main__":
    sys.exit(main())
