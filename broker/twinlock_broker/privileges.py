"""The broker has no privilege, and refuses to run with one: what it can't do, nobody can make it do."""

import os
from pathlib import Path

from twinlock_broker.errors import Fatal

_SETS = ("CapPrm", "CapEff", "CapAmb")


def refuse_privileges(uid: int, status: str) -> None:
    """Raise `Fatal` (77) for uid 0 or for any capability in `status`, the text of /proc/self/status (proc(5))."""
    if uid == 0:
        raise Fatal(
            os.EX_NOPERM,
            "the broker must not run as root: start it as the system user 'twinlock' (User= in its unit). "
            "Only twinlock-spawner runs as root",
        )
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    held = [name for name in _SETS if int(fields[name], 16)]
    if held:
        raise Fatal(
            os.EX_NOPERM,
            f"the broker must not hold capabilities, but {', '.join(held)} is not empty: "
            "remove AmbientCapabilities= or the file capabilities of its interpreter",
        )


def refuse_own_privileges() -> None:
    """`refuse_privileges` for this process."""
    refuse_privileges(os.geteuid(), Path("/proc/self/status").read_text())
