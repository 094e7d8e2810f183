"""A YAML file of one of our own programs."""

import os
from pathlib import Path
from typing import Any

from twinlock_common.site_files import load_yaml, read_file

from twinlock_broker.errors import Fatal


def read_mapping(path: Path) -> dict[Any, Any]:
    """Return the keys and values in the file. Raise `Fatal` (66, 78)."""
    try:
        found = load_yaml(read_file(path)) or {}
    except OSError as error:
        raise Fatal(os.EX_NOINPUT, f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise Fatal(os.EX_CONFIG, f"{path}: not valid YAML: {error}") from error
    if not isinstance(found, dict):
        raise Fatal(os.EX_CONFIG, f"{path}: has to be a YAML mapping of keys to values")
    return found
