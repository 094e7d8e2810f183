"""The programs' command lines, as their own argparse parsers describe them."""

import argparse
from collections.abc import Callable
from typing import Any
from unittest import mock

from twinlock_broker import __main__ as broker
from twinlock_broker.commands import __main__ as commands
from twinlock_service import __main__ as service
from twinlock_spawner import __main__ as spawner


class _Taken(Exception):
    """Carries a parser out of a program that makes it and uses it in one function."""


def all_parsers() -> dict[str, argparse.ArgumentParser]:
    """By the command that they are of; twinlock's subcommands are in its own."""
    return {
        "twinlock": commands.parser(),
        "twinlock-broker": broker.parser(),
        "twinlock-spawner": _taken(spawner._begin),
        "twinlock-service": service.parser(),
    }


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """By name, in the order of the help; of a command that has commands, these."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, made in action.choices.items():
                found |= {f"{name} {inner}": each for inner, each in subcommands(made).items()} or {name: made}
    return found


def _taken(program: Callable[[], Any]) -> argparse.ArgumentParser:
    def parse_args(parser: argparse.ArgumentParser, *_: Any) -> None:
        raise _Taken(parser)

    with mock.patch.object(argparse.ArgumentParser, "parse_args", parse_args):
        try:
            program()
        except _Taken as taken:
            parser: argparse.ArgumentParser = taken.args[0]
            return parser
    raise AssertionError("the program has no parser any more")
