"""The removal of what belongs to an endpoint on this host. Nothing is removed that Twinlock doesn't know."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from twinlock_broker.config.folder import Folder
from twinlock_broker.endpoints.admission import FILE
from twinlock_broker.errors import Fatal

DESCRIPTION = """\
in DIR its configuration, template, schema, variables and identity mapping; in the broker's state folder the uuid, the
blocked accounts, and what it knew of user endpoints"""

_STATE_FOLDERS = ("endpoints", "notices")
_STATE_FILES = ("endpoint.json", FILE, "broker.lock", "control.sock", "admin.sock")


def check(folder: Folder) -> None:
    """Raise `Fatal` (73) unless this account may remove the folder."""
    if not os.access(folder.path, os.W_OK | os.X_OK) or not os.access(folder.path.parent, os.W_OK | os.X_OK):
        raise Fatal(os.EX_CANTCREAT, f"{folder.path}: can't be removed by this account; try sudo. Nothing was changed")


def remove_state(state: Path) -> None:
    """Remove what the broker has written. Raise `Fatal` (73)."""
    try:
        for name in _STATE_FOLDERS:
            if (state / name).is_dir():
                shutil.rmtree(state / name)
        for name in _STATE_FILES:
            (state / name).unlink(missing_ok=True)
    except OSError as error:
        raise _unremovable(error) from error


def remove_folder(folder: Folder) -> list[str]:
    """Remove the folder's own files, and the folder if nothing else is in it. Return what else is in it.

    Raise `Fatal` (73) for a file that can't be removed.
    """
    try:
        for path in _files(folder):
            path.unlink(missing_ok=True)
        left = sorted(path.name for path in folder.path.iterdir())
        if not left:
            folder.path.rmdir()
    except OSError as error:
        raise _unremovable(error) from error
    return left


def _files(folder: Folder) -> Iterator[Path]:
    """Yield the files in the folder that config.yaml leads to; config.yaml last, so that a second try finds it."""
    named = (folder.template_path, folder.schema_path, folder.mapping_path)
    yield from [path for path in named if path is not None and path.parent == folder.path]
    yield from (folder.path / name for name in ("user_environment.yaml", "endpoint.json", "config.yaml"))


def _unremovable(error: OSError) -> Fatal:
    return Fatal(
        os.EX_CANTCREAT,
        f"{error.filename}: can't be removed: {error.strerror}; correct that, and run twinlock delete --force",
    )
