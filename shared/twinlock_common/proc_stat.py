"""What the kernel tells everybody about a process: /proc/PID/stat, see proc_pid_stat(5)."""

from pathlib import Path

STATE, PARENT, STARTED = 3, 4, 22
"""Fields of the file, by the numbers that the manual page gives them."""


def field(pid: int, number: int) -> str | None:
    """Return the field of process `pid` with this number, from 3 on; None if it can't be known.

    The second field, the command's name, may hold spaces and brackets.
    """
    try:
        _, _, rest = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")
        return rest.split()[number - 3]
    except (OSError, IndexError):
        return None
