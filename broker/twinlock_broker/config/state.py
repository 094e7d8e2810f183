"""The broker's own files in its state folder, written so that neither a crash nor a power cut leaves half of one.

STATE/endpoint.json keeps the endpoint's uuid over restarts, as the peer's does.
"""

import json
import os
from pathlib import Path

from twinlock_broker.errors import Fatal


def remember(state: Path, endpoint_id: str) -> None:
    """Write the uuid. Atomically: a broken file would register a new endpoint. Raises `Fatal` (73)."""
    path = state / "endpoint.json"
    try:
        write_durably(path, json.dumps({"endpoint_id": endpoint_id}))
    except OSError as error:
        raise Fatal(os.EX_CANTCREAT, f"{path}: {error.strerror}; give --state a folder that the broker owns") from error


def write_durably(path: Path, text: str) -> None:
    """Replace the file as a whole, and return when the disk has it. Blocks. Raises `OSError`; then nothing changed."""
    draft = path.with_suffix(".new")
    with draft.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)  # which has the file's name
    finally:
        os.close(folder)
