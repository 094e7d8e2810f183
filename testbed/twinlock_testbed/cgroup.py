"""The cgroup of a spawner that is run here."""

import os
import time
from pathlib import Path

_REMOVAL_LIMIT = 60.0


def cgroup_folder(folder: Path) -> str:
    """Return a cgroup v2 for a spawner: a folder that it may make; empty if there is none or we aren't root."""
    for root in (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified")):
        if (root / "cgroup.controllers").exists() and os.geteuid() == 0 and os.access(root, os.W_OK):
            return str(root / f"twinlock-{folder.parent.name}-{folder.name}")
    return ""


def remove_cgroup(folder: Path) -> None:
    """Remove what `cgroup_folder` named and all below, when its spawner has ended; whatever is in there is killed."""
    name, end = cgroup_folder(folder), time.monotonic() + _REMOVAL_LIMIT
    if not name or not Path(name).exists():
        return
    Path(name, "cgroup.kill").write_text("1")
    while Path(name).exists():
        try:
            for path in sorted(Path(name).glob("**/"), reverse=True):
                path.rmdir()
        except OSError:  # who is killed ends in a moment; and the spawner's keeper removes things as well
            if time.monotonic() > end:
                raise
            time.sleep(0.02)
