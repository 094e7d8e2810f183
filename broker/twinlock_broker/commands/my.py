"""``twinlock my``: what users see of their own endpoints, and do about them, without root."""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twinlock_broker.command_line import add_command
from twinlock_broker.commands import own_log, status
from twinlock_broker.commands.ask import ask
from twinlock_broker.commands.stop import by_uuid, stop_all
from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable_lines

_RUN = Path("/run")
_SOCKETS = ("twinlock-broker/users.sock", "twinlock-instances/*/users.sock")
_EVERYBODY = "an account may connect sixteen times a second and keep sixteen connections; try again in a minute"
_EXAMPLES = """\
  twinlock my
  twinlock my stop 7b1f
  twinlock my stop --all
  twinlock my log 7b1f --follow
  twinlock my options 7b1f

The table is that of `twinlock status`, see twinlock-status(8), with the endpoints of your account on this host. The
beginning of a uuid is enough.
"""
_CODES = """
exit codes: 0 done; 65 there is no such endpoint, or several match; 66 a log can't be read; 69 no broker there; 75 no
  answer; 76 not a broker's answer; 77 asked too often
"""
_STOP = """\
The endpoint ends with all that it started on this host; the futures of its tasks end with an error that says so. It
isn't started again before you submit something for it.
"""
_OPTIONS = """\
Prints the options that the endpoint was started for, as JSON. One in verified mode runs with those that you have
signed: see `twinlock-client show`.
"""


def add(commands: Any) -> argparse.ArgumentParser:
    """Add the subcommand to `commands` and return its parser."""
    made = add_command(commands, "my", "show and stop your own user endpoints", _EXAMPLES + _CODES)
    made.set_defaults(act=_list, json=False)
    _add_socket(made)
    made.add_argument("--json", action="store_true", help="print all that is known, as a JSON list of the managers")
    acts = made.add_subparsers(metavar="ACTION")
    stop = add_command(acts, "stop", "end one of your endpoints, or all", _STOP)
    which = stop.add_mutually_exclusive_group(required=True)
    _add_endpoint(which, nargs="?")
    which.add_argument("--all", action="store_true", help="end all your endpoints on this host")
    stop.set_defaults(act=_stop)
    options = add_command(acts, "options", "show what one of your endpoints was started for", _OPTIONS)
    _add_endpoint(options)
    options.set_defaults(act=_options)
    own_log.add(acts).set_defaults(act=own_log.run)
    return made


def run(given: argparse.Namespace) -> int:
    """Do what was asked for, and return the exit code."""
    code: int = given.act(given)
    return code


def _add_socket(parser: argparse.ArgumentParser) -> None:
    there = " and ".join(str(_RUN / socket) for socket in _SOCKETS)
    text = f"the users' socket of one broker, users.sock in its runtime_dir (default: all of {there})"
    parser.add_argument("--socket", type=Path, metavar="PATH", help=text)


def _add_endpoint(group: Any, **form: Any) -> None:
    chosen = group.add_argument("endpoint", metavar="UEP", help="its uuid, or the beginning of it", **form)
    chosen.completer = _complete


def _list(given: argparse.Namespace) -> int:
    found = [answer for _, answer in managers(given.socket)]
    if given.json:
        print(json.dumps(found, indent=2))
        return os.EX_OK
    for answer in found:
        print(f"manager endpoint {answer['endpoint']} ({answer['name']})")
        print(*status.lines(answer["endpoints"]), sep="\n")
    return os.EX_OK


def _stop(given: argparse.Namespace) -> int:
    rows = list(_rows(given))
    if given.all and not rows:
        raise Fatal(os.EX_DATAERR, "you have no endpoint on this host")
    chosen = rows if given.all else by_uuid(rows, given.endpoint)
    if not sum(stop_all(row["socket"], [row]) for row in chosen):
        raise Fatal(os.EX_DATAERR, f"{chosen[0]['id']} has just ended by itself")
    return os.EX_OK


def _options(given: argparse.Namespace) -> int:
    (row,) = by_uuid(list(_rows(given)), given.endpoint)
    answer = ask(row["socket"], {"request": "options", "endpoint": row["id"]}, _EVERYBODY)
    if answer["options"] is None:
        raise Fatal(os.EX_DATAERR, f"{row['id']} was running when the broker started, which doesn't know its options")
    print(json.dumps(answer["options"], indent=2))
    return os.EX_OK


def _rows(given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the endpoints of the account, each with the socket of its broker."""
    for path, answer in managers(given.socket):
        yield from (row | {"socket": path} for row in answer["endpoints"])


def managers(socket: Path | None) -> list[tuple[Path, dict[str, Any]]]:
    """Return what each broker of this host says about the account's endpoints, or that of one socket.

    One that doesn't answer is reported, and keeps nobody from the others. Raise `Fatal` if none answers.
    """
    paths = [socket] if socket else sorted(path for form in _SOCKETS for path in _RUN.glob(form))
    if not paths:
        names = ", ".join(str(_RUN / form) for form in _SOCKETS)
        raise Fatal(os.EX_UNAVAILABLE, f"no broker runs on this host, or it is older: there is none of {names}")
    found: list[tuple[Path, dict[str, Any]]] = []
    failures = []
    for path in paths:
        try:
            found.append((path, ask(path, {"request": "mine"}, _EVERYBODY)))
        except Fatal as error:
            failures.append(error)
    if not found:
        raise failures[0]
    for failure in failures:
        print(f"twinlock: {printable_lines(str(failure))}", file=sys.stderr)
    return found


def _complete(prefix: str, parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    """Return the uuids of the account's endpoints, for tab completion."""
    try:
        return [row["id"] for row in _rows(parsed_args) if row["id"].startswith(prefix)]
    except Fatal:
        return []
