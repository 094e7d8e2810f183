"""Texts of others, such as endpoints, tasks and services, on their way to an administrator's terminal."""

LONGEST = 100_000


def printable(text: str, longest: int = LONGEST) -> str:
    """Return one line of at most `longest` characters.

    What a terminal would act upon, or turn around, becomes a space.
    """
    shown = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(character if character.isprintable() else " " for character in shown)


def printable_lines(text: str) -> str:
    """Return the same for a text of several lines."""
    return "\n".join(printable(line) for line in text.split("\n"))
