"""Arguments that several subcommands have."""

import argparse
from typing import Any

Commands = Any
"""What `argparse.ArgumentParser.add_subparsers` returns; its class has no public name."""


def command(commands: Commands, name: str, summary: str, details: str) -> argparse.ArgumentParser:
    """Add a subcommand. `details` has what it does and an example."""
    added: argparse.ArgumentParser = commands.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return added


def add_user(to: argparse.ArgumentParser) -> None:
    """Add whose work it is."""
    to.add_argument("user", metavar="USER", help="your account and the site, such as ada@cluster.example.org")


def add_endpoint(to: argparse.ArgumentParser) -> None:
    """Add at which endpoint."""
    to.add_argument("endpoint", metavar="ENDPOINT", help="the endpoint's uuid, which your site tells you")


def add_key(to: argparse.ArgumentParser) -> None:
    """Add who signs."""
    to.add_argument(
        "--key",
        help="file of your SSH key, or the fingerprint of one in your agent (default: the only one in your agent)",
    )


def add_ssh(to: argparse.ArgumentParser) -> None:
    """Add how the account is reached."""
    to.add_argument("--ssh", metavar="DEST", help="where to log in by ssh (default: USER)")
