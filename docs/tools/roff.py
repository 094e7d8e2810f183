"""Plain text to roff, the language of manual pages: man(7)."""

import argparse
import re
from collections.abc import Iterable, Iterator

_ITEM = re.compile(r"`([^`]+)`: (.*)")


def heading(page: str, section: int, version: str) -> str:
    """Return the first lines of a page, without a date: the same sources make the same page. Words aren't broken."""
    return f'.TH "{page.upper()}" "{section}" "" "twinlock {version}" "Twinlock"\n.nh\n.ad l'


def section(title: str, lines: Iterable[str]) -> list[str]:
    """Return a section, or nothing if it is empty."""
    body = list(lines)
    return [f'.SH "{title}"', *body] if body else []


def item(term: str, text: str) -> list[str]:
    """Return one thing and what is said of it."""
    return [".TP", rf"\fB{escape(term)}\fR", *prose(text)]


def prose(text: str) -> list[str]:
    """Return lines that are filled; `word` becomes bold."""
    return [re.sub(r"`([^`]+)`", r"\\fB\1\\fR", escape(line.strip())) for line in text.splitlines() if line.strip()]


def paragraphs(text: str) -> Iterator[str]:
    """Yield the lines of a text with blank lines between paragraphs.

    Indented lines stay as they are; "`term`: text" is an item.
    """
    for block in re.split(r"\n\s*\n", text.strip("\n")):
        for indented, lines in _runs(block.splitlines()):
            if indented:
                yield from (".PP", ".RS 4", ".nf", *map(escape, lines), ".fi", ".RE")
            elif _ITEM.match(lines[0]):
                for line in lines:
                    found = _ITEM.match(line)
                    yield from item(found[1], found[2]) if found else prose(line)
            else:
                yield from (".PP", *prose("\n".join(lines)))


def _runs(lines: list[str]) -> Iterator[tuple[bool, list[str]]]:
    run: list[str] = []
    for line in lines:
        if run and run[0].startswith("  ") != line.startswith("  "):
            yield run[0].startswith("  "), run
            run = []
        run.append(line)
    if run:
        yield run[0].startswith("  "), run


def escape(text: str) -> str:
    """Return the text as roff takes it for itself: no escape, no request, and minus signs that can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


def synopsis(parser: argparse.ArgumentParser) -> list[str]:
    """Return the usage line."""
    formatter = argparse.HelpFormatter(parser.prog, width=10_000)
    formatter.add_usage(
        parser.usage,
        [a for a in parser._actions if a.dest != "help"],  # noqa: SLF001 - as argparse itself makes the usage line
        parser._mutually_exclusive_groups,  # noqa: SLF001 - as argparse itself makes the usage line
        "",
    )
    words = formatter.format_help().strip().removeprefix(parser.prog).replace(" ]", "]")
    return [rf"\fB{escape(parser.prog)}\fR {escape(words.strip())}"]


def options(parser: argparse.ArgumentParser) -> list[str]:
    """Return each argument with its help, group by group."""
    made: list[str] = []
    for group in parser._action_groups:  # noqa: SLF001 - argparse lists its groups nowhere else
        for action in group._group_actions:  # noqa: SLF001 - nor a group's arguments
            # argparse has no public name for subcommands.
            if action.dest == "help" or isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
                continue
            made += item(_names(action), _help(parser, action))
    return made


def _names(action: argparse.Action) -> str:
    value = action.dest.upper() if action.metavar is None else str(action.metavar)
    if not action.option_strings:
        return value
    return ", ".join(name if action.nargs == 0 else f"{name} {value}".rstrip() for name in action.option_strings)


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    # argparse fills in %(default)s nowhere else.
    return parser._get_formatter()._expand_help(action) if action.help else ""  # noqa: SLF001
