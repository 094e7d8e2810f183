"""The mapping file as it stands on disk: a list of mapper documents in JSON (Globus' identity mapping guide)."""

from pathlib import Path
from typing import Any

from twinlock_broker.config.reading import load_json, read_file


def read_documents(path: Path) -> list[Any]:
    """The mapper documents in the file. Blocks. Raises `OSError`, or `ValueError` where it holds no JSON list."""
    documents = listed(load_json(read_file(path)))
    if not isinstance(documents, list):
        raise ValueError(f"has to be a list of mappers, [{{...}}, ...], not {type(documents).__name__}")
    return documents


def listed(content: object) -> object:
    """`content`, with a single mapper as a list of one: Globus Connect Server's own files hold a single object."""
    return [content] if isinstance(content, dict) else content
