"""Run as a program: starts argv[2:] and keeps all of its descendants, as the spawner does; tells on fd argv[1].

One JSON line with the pid, and when the program ended one with its exit code and the command lines of what is still
there some seconds later. That is killed then.
"""

import json
import os
import sys
from contextlib import suppress

import prctl
import psutil

_GRACE_S = 60.0  # what was killed with it needs a turn of the processor to end


def main() -> None:
    """Start, reap, report."""
    report = os.fdopen(int(sys.argv[1]), "w", buffering=1)
    prctl.set_child_subreaper(1)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.execv(sys.argv[2], sys.argv[2:])
    report.write(json.dumps({"pid": pid}) + "\n")
    ended, status = 0, 0
    while ended != pid:
        ended, status = os.wait()
    _, left = psutil.wait_procs(_descendants(), timeout=_GRACE_S)
    report.write(json.dumps({"code": os.waitstatus_to_exitcode(status), "left": _end(left)}) + "\n")


def _descendants() -> list[psutil.Process]:
    """All but jobs of the stand-ins for batch systems: such a job is the scheduler's, whoever has submitted it."""
    return [process for process in psutil.Process().children(recursive=True) if not _is_job(process)]


def _is_job(process: psutil.Process) -> bool:
    try:
        return "STANDIN_JOB" in process.environ()
    except psutil.Error:  # it has ended, or isn't to be looked into
        return False


def _end(processes: list[psutil.Process]) -> list[str]:
    lines = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            lines.append(" ".join(process.cmdline()))
            process.kill()
    return lines


if __name__ == "__main__":
    main()
