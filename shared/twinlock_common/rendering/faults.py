"""The place of an error in a template, for the administrator: the file, the line and the line's text."""

import linecache
import traceback
from dataclasses import dataclass
from pathlib import Path

import jinja2

_MOST = 300  # characters of a reason, which may hold an option, and of a line


@dataclass(frozen=True, slots=True)
class Source:
    """A template."""

    name: str
    """Its file, for people."""
    text: str
    """The template itself."""
    folder: Path
    """What it may include from."""

    def fault(self, error: Exception) -> str:
        """Return `FILE, line N: REASON: TEXT` for an error of this template or of one that it includes."""
        if isinstance(error, jinja2.TemplateSyntaxError):
            line = _line(error.source or self.text, error.lineno)
            return _sentence(error.filename or self.name, error.lineno, str(error.message), line)
        reason = f"{type(error).__name__}: {error}"
        place = self._innermost(error)
        if place is None:
            return f"{self.name}: {_shown(reason)}"
        name, number = place
        line = _line(self.text, number) if name == self.name else linecache.getline(name, number)
        return _sentence(name, number, reason, line)

    def _innermost(self, error: Exception) -> tuple[str, int] | None:
        """Return the file and line of a template that ran last; None if none did.

        Jinja writes tracebacks in terms of templates.
        """
        frames = traceback.extract_tb(error.__traceback__, limit=-50)
        places = [(frame.filename, frame.lineno or 0) for frame in frames if self._has(frame.filename)]
        return places[-1] if places else None

    def _has(self, name: str) -> bool:
        return name == self.name or Path(name).is_relative_to(self.folder)


def _sentence(name: str, number: int, reason: str, line: str) -> str:
    return f"{name}, line {number}: {_shown(reason)}: {_shown(line)}"


def _shown(text: str) -> str:
    return "".join(character for character in text.strip()[:_MOST] if character.isprintable())


def _line(text: str, number: int) -> str:
    lines = text.splitlines()
    return lines[number - 1] if 0 < number <= len(lines) else ""
