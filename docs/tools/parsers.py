"""The programs' command lines, as their own argparse parsers describe them."""

import argparse

from twinlock_broker import __main__ as broker
from twinlock_broker.commands import __main__ as commands
from twinlock_broker.console import __main__ as console
from twinlock_service import __main__ as service
from twinlock_spawner import __main__ as spawner


def all_parsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parsers by their commands; those of twinlock's subcommands are inside its own."""
    return {
        "twinlock": commands.parser(),
        "twinlock-broker": broker.parser(),
        "twinlock-console": console.parser(),
        "twinlock-spawner": spawner.parser(),
        "twinlock-service": service.parser(),
    }


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the subcommands' parsers by name, in the order of the help; of one that needs a command, these."""
    found: dict[str, argparse.ArgumentParser] = {}
    for action in _commands(parser):
        for name, made in action.choices.items():
            if any(inner.required for inner in _commands(made)):
                found |= {f"{name} {inner}": each for inner, each in subcommands(made).items()}
            else:
                found[name] = made
    return found


def _commands(parser: argparse.ArgumentParser) -> "list[argparse._SubParsersAction[argparse.ArgumentParser]]":
    actions = parser._actions  # noqa: SLF001 - argparse lists a parser's arguments nowhere else
    kind = argparse._SubParsersAction  # noqa: SLF001 - nor has it a public name for this
    return [action for action in actions if isinstance(action, kind)]
