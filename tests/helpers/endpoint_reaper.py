"""Run as a program: starts argv[2:] and keeps all of its descendants, as the spawner does; tells on fd argv[1].

One JSON line with the pid, and when the program ended one with its exit code and the command lines of what is still
there some seconds later. That is killed then.
"""

import json
import os
import sys
import time
from contextlib import suppress

import prctl
import psutil

_GRACE_S = 60.0  # what was killed with it needs a turn of the processor to end
_LOOK_S = 0.2


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
    left = _wait(psutil.Process().children(recursive=True))
    report.write(json.dumps({"code": os.waitstatus_to_exitcode(status), "left": _end(left)}) + "\n")


def _wait(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that are still there after the time that they have, but for jobs of the stand-ins for batch systems.

    Such a job is the scheduler's, whoever has submitted it.
    """
    end = time.monotonic() + _GRACE_S
    while True:
        _, processes = psutil.wait_procs(processes, timeout=_LOOK_S)
        processes = [process for process in processes if not _is_job(process)]
        if not processes or time.monotonic() > end:
            return processes


def _is_job(process: psutil.Process) -> bool:
    """Whether it, or what leads its session, was started as a job.

    One that has a title has no variables any more, one that is just being executed has none yet.
    """
    return any(_is_marked(pid) for pid in (process.pid, _session_of(process)))


def _session_of(process: psutil.Process) -> int:
    with suppress(ProcessLookupError):
        return os.getsid(process.pid)
    return process.pid


def _is_marked(pid: int) -> bool:
    try:
        return "STANDIN_JOB" in psutil.Process(pid).environ()
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
