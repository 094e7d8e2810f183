"""man.py DIR: write the manual pages to DIR/man5 and DIR/man8, from the programs' parsers and tables, and prose.py."""

import argparse
import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import prose
import reference
import roff
from parsers import all_parsers, subcommands

VERSION = importlib.metadata.version("twinlock")
_TABLES = {
    "twinlock-spawner.toml": {"KEYS": "policy"},
    "twinlock-broker.yaml": {"KEYS OF BROKER.YAML": "broker", "KEYS OF CONFIG.YAML": "manager"},
    "twinlock-console": {"KEYS OF CONSOLE.YAML": "console"},
    "twinlock-service": {"SETTINGS": "service"},
    "twinlock-endpoint": {"CONFIGURATION": "endpoint", "ARGUMENTS OF GLOBUSCOMPUTEENGINE": "engine"},
}
_EXIT_CODES = re.compile(r"exit codes: (.*)", re.IGNORECASE | re.DOTALL)


def page(name: str, parser: argparse.ArgumentParser | None) -> str:
    """Return the page's text."""
    lines = [roff.heading(name, _section(name), VERSION)]
    lines += roff.section("NAME", [f"{roff.escape(name)} \\- {roff.escape(_one_line(name, parser))}"])
    if parser is not None:
        lines += roff.section("SYNOPSIS", roff.synopsis(parser))
    lines += roff.section("DESCRIPTION", _description(name, parser))
    lines += [line for part in _middle(name, parser) for line in part]
    for title, text in prose.SECTIONS.get(name, {}).items():
        lines += roff.section(title, roff.paragraphs(text))
    if parser is not None and "EXIT STATUS" not in prose.SECTIONS.get(name, {}):
        lines += roff.section("EXIT STATUS", _exit_codes(parser))
    see_also = prose.SEE_ALSO.get(name, ["twinlock(8)", "twinlock-broker(8)"])
    lines += roff.section("SEE ALSO", [f"{roff.escape(', '.join(see_also))}"])
    return "\n".join(lines) + "\n"


def _section(name: str) -> int:
    """Return the page's section of the manual: users' commands, files, or administrators' commands."""
    if name == prose.FOR_USERS:
        return 1
    return 5 if "." in name else 8


def _one_line(name: str, parser: argparse.ArgumentParser | None) -> str:
    """Return what the program does, in one line; a subcommand's description says it."""
    if name in prose.ONE_LINE or parser is None:
        return prose.ONE_LINE[name]
    sentence = (parser.description or "").rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def _description(name: str, parser: argparse.ArgumentParser | None) -> Iterator[str]:
    if name in prose.DESCRIPTION:
        yield from roff.paragraphs(prose.DESCRIPTION[name])
    elif parser is not None:
        yield from roff.paragraphs(parser.description or "")
        yield from roff.paragraphs(_epilog(parser))


def _middle(name: str, parser: argparse.ArgumentParser | None) -> Iterator[list[str]]:
    if parser is not None:
        yield roff.section("OPTIONS", roff.options(parser))
        found = subcommands(parser)
        if found:
            yield roff.section("COMMANDS", (line for made in found.values() for line in _subcommand(made)))
    for title, table in _TABLES.get(name, {}).items():
        yield roff.section(title, (line for row in reference.rows(table) for line in _row(row)))


def _subcommand(parser: argparse.ArgumentParser) -> Iterator[str]:
    yield f'.SS "{roff.escape(parser.prog)}"'
    yield from roff.synopsis(parser)
    yield from roff.paragraphs(parser.description or "")
    yield from roff.options(parser)
    yield from roff.paragraphs(_epilog(parser))
    codes = _EXIT_CODES.search(parser.epilog or "")
    if codes:
        yield from (".PP", *roff.prose(f"Exit codes: {codes[1]}"))


def _row(row: reference.Row) -> list[str]:
    default = (
        ""
        if not row.default
        else " It is required."
        if row.default == reference.REQUIRED
        else f" Default: {row.default}."
    )
    kind = f" ({row.kind})" if row.kind else ""
    return roff.item(row.name, f"{row.meaning}{kind}.{default}")


def _epilog(parser: argparse.ArgumentParser) -> str:
    """Return the epilog without the exit codes, which have a section of their own."""
    return _EXIT_CODES.sub("", parser.epilog or "")


def _exit_codes(parser: argparse.ArgumentParser) -> Iterator[str]:
    codes = _EXIT_CODES.search(parser.epilog or "")
    for part in re.split(r";\s+", codes[1].strip()) if codes else ():
        number, _, meaning = " ".join(part.split()).partition(" ")
        yield from roff.item(number, meaning.rstrip("."))


def write(target: Path, name: str, parser: argparse.ArgumentParser | None) -> None:
    """Write the page to its folder in `target`."""
    folder = target / f"man{_section(name)}"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.{_section(name)}").write_text(page(name, parser))


def main(target: Path) -> None:
    """Write all pages of hosts: of the programs, of the files, and of each of twinlock's subcommands."""
    parsers = all_parsers()
    found = {name: parsers.get(name) for name in prose.ONE_LINE if name != prose.FOR_USERS}
    found |= {f"twinlock-{name}": parser for name, parser in subcommands(parsers["twinlock"]).items()}
    for name, parser in found.items():
        write(target, name, parser)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
