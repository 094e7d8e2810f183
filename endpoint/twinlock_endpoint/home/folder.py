"""The endpoint's folder in the user's home."""

import json
import os
from collections.abc import Callable
from pathlib import Path

from twinlock_endpoint.config.configuration import Config
from twinlock_endpoint.errors import FolderError, HeldFolderError
from twinlock_endpoint.home import cleanup, lock, obstacles, pid_file


def prepare(name: str, endpoint_id: str, config: Config, is_needed: Callable[[Path], bool]) -> Path:
    """Make the endpoint's folder, readable by its user only, and say in it which endpoint it is of.

    `is_needed` is for `cleanup.clean`, which removes others.
    """
    base = Path(os.environ.get("GLOBUS_COMPUTE_USER_DIR") or "~/.globus_compute").expanduser()
    folder = config.paths.get("endpoint_dir", base / name)
    if config.keep_unused_days:
        cleanup.clean(base, folder, config.keep_unused_days, is_needed)
    try:
        lock.hold(folder)
        folder.chmod(0o700)
        (folder / "tasks_working_dir").mkdir(exist_ok=True)
        about = {"endpoint_id": endpoint_id, "display_name": config.display_name}
        (folder / "endpoint.json").write_text(json.dumps(about))
        pid_file.write(folder)
    except lock.HeldError as error:
        raise HeldFolderError(
            f"Another endpoint of this name still runs ({error}); it has to end before this one can start."
        ) from None
    except OSError as error:
        raise FolderError(
            f"The endpoint's folder {folder} can't be made: {obstacles.explain(folder, error)}"
        ) from error
    return folder.resolve()
