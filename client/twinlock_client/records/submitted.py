"""Tasks that this computer has submitted, by task group: after `reload_tasks` only this shows a swap of two results."""

import contextlib
import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path

from twinlock_client import user
from twinlock_client.records import files
from twinlock_client.results import Expected

log = logging.getLogger(__name__)

_KEPT = 30 * 86400
"""Seconds that a group is kept after its last task. The service keeps results for two weeks."""


def add(group: str, submitted: Mapping[str, Expected]) -> None:
    """Record tasks of a group, by their uuids. What fails is logged: they are on their way already."""
    path = _path(group)
    try:
        if not path.exists():
            _forget_old(path.parent)
        files.append(path, [_line(task, expected) for task, expected in submitted.items()])
    except OSError as error:
        log.warning("%s: %s; `reload_tasks` won't know these tasks", path, error.strerror)


def read(group: str) -> dict[str, Expected]:
    """Return what was recorded of a group, by the tasks' uuids. Raise `OSError` if it can't be read."""
    found = {}
    for line in files.read(_path(group)):
        try:
            task, account, manager, statement, is_shell = json.loads(line)
            found[str(task)] = Expected(user.read(account), manager, statement, is_shell=is_shell is True)
        except (ValueError, TypeError):
            log.warning("%s: it has a line that can't be read", _path(group))
    return found


def _line(task: str, expected: Expected) -> str:
    return json.dumps([task, str(expected.user), expected.manager, expected.task, expected.is_shell])


def _path(group: str) -> Path:
    return files.state("tasks") / group


def _forget_old(folder: Path) -> None:
    before = time.time() - _KEPT
    for path in folder.glob("*"):
        with contextlib.suppress(OSError):  # another process removes it at the same time, or it is none of ours
            if path.stat().st_mtime < before:
                path.unlink()
