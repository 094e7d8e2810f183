"""Files that administrators write, read as text, YAML or JSON: with limits, and with reasons for people."""

import json
import os
import stat
from pathlib import Path
from typing import Any

import yaml

from twinlock_common.unique_keys import UniqueKeyLoader

MOST = 16 << 20
"""Bytes of a file; a schema of a thousand options has some hundred thousand."""


def is_there(path: Path) -> bool:
    """Return whether there is anything at the path, be it a link that leads nowhere.

    Raise `OSError` if that can't be known. To `os.path.lexists` there is no file then, and what holds where a file is
    missing would hold where a disk fails: any option would do without its schema.
    """
    try:
        path.lstat()
    except FileNotFoundError:
        return False
    return True


def read_file(path: Path) -> str:
    """Return the text of the file, without the mark that Windows editors put at its beginning.

    A pipe or a device would hold up whoever reads it, so it is refused. Only `/dev/null` counts as an empty file, as it
    does for the official agent.

    Raises:
        OSError: it isn't there, or may not be read.
        ValueError: it isn't a regular file, is too long, or isn't UTF-8.
    """
    status = path.stat()
    if path.samefile(os.devnull):
        return ""
    if stat.S_ISDIR(status.st_mode):
        raise ValueError("it is a folder, not a file")
    if not stat.S_ISREG(status.st_mode):
        raise ValueError("it is a pipe or a device, not a regular file")
    if status.st_size > MOST:
        raise ValueError(f"it has more than {MOST >> 20} MiB")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ValueError(f"line {line} isn't UTF-8; save the file in that encoding") from error


def load_yaml(text: str) -> Any:
    """Return the content of a YAML text. Raise `ValueError`, whose text is one line: where, and what is wrong."""
    try:
        return yaml.load(text, UniqueKeyLoader)  # noqa: S506 - a SafeLoader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}: " if mark else ""
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise ValueError(f"{place}{reason}") from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise ValueError(f"line {line}: the character #x{error.character:04x} isn't allowed") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def load_json(text: str) -> Any:
    """Return the content of a JSON text. Raise `ValueError` if it isn't JSON, or has a key twice in the same object."""
    return json.loads(text, object_pairs_hook=_once)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the key {name!r} occurs twice in the same object; remove one of the two")
        found[name] = value
    return found
