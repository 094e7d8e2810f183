"""The look of Twinlock's pages: the console's, and that of the local service."""

from importlib.resources import files

NAME = "style.css"
"""What the pages call it."""


def stylesheet() -> bytes:
    """Return the style sheet."""
    return files(__package__).joinpath("page", NAME).read_bytes()
