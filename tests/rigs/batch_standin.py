#!/usr/bin/python3 -I
"""Stands in for the commands of PBS Pro, Torque, Grid Engine, LSF and HTCondor, by the name under which it is called.

Jobs run at once, on this host, as whoever submits. STANDIN is a folder: a file N.job for each job with what was asked,
N.pid while it runs. Where STANDIN/refuse exists, submissions fail with the text in it.
"""

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

STATE = Path(os.environ["STANDIN"])


def main() -> int:
    """Do what the command of that name does; its exit code."""
    name, words = Path(sys.argv[0]).name, sys.argv[1:]
    if name in ("qsub", "bsub", "condor_submit"):
        return submit(name, words)
    if name in ("qdel", "bkill", "condor_rm"):
        for number in map(number_of, (word for word in words if word[0].isdigit())):
            with suppress(OSError):
                os.killpg(int((STATE / f"{number}.pid").read_text()), signal.SIGKILL)
        return 0
    jobs = [word for word in words if word[0].isdigit()]
    if name == "qstat" and "json" not in words:
        return table(jobs or [path.stem for path in STATE.glob("*.job")])
    return status(name, jobs)


def number_of(job: str) -> int:
    """The job's number in its id, as each scheduler writes one."""
    return int(job.split(".")[0])


def submit(name: str, words: list[str]) -> int:
    """Start the job's script, and say its id as the scheduler does."""
    if (STATE / "refuse").exists():
        print((STATE / "refuse").read_text(), file=sys.stderr)
        return 1
    number = len(list(STATE.glob("*.job"))) + 1
    text = Path(words[-1]).read_text() if words else sys.stdin.read()
    (STATE / f"{number}.job").write_text(f"{name} {' '.join(words)}\n{text}")
    script = words[-1] if words else str(STATE / f"{number}.script")
    if name == "bsub":
        Path(script := str(STATE / f"{number}.script")).write_text(text)
    if name == "condor_submit":
        (script,) = re.findall(r"transfer_input_files\s*= *([^,\n]+)", text)
    with open(STATE / f"{number}.out", "w") as output:
        job = subprocess.Popen(
            ["/bin/bash", script], stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    (STATE / f"{number}.pid").write_text(str(job.pid))
    said = {
        "qsub": str(number) if "-terse" in words else f"{number}.server",
        "bsub": f"Job <{number}> is submitted to queue <normal>.",
        "condor_submit": f"Submitting job(s).\n1 job(s) submitted to cluster {number}.",
    }
    print(said[name])
    return 0


def status(name: str, jobs: list[str]) -> int:
    """Print what is known of the jobs."""
    states = {job: running(number_of(job)) for job in jobs}
    if name == "qstat":
        print(json.dumps({"Jobs": {job: {"job_state": "R" if alive else "F"} for job, alive in states.items()}}))
    for job, alive in states.items():
        if name == "bjobs":
            print(job, "RUN" if alive else "DONE")
        elif name == "condor_q":
            print(job, "2" if alive else "4")
    return 0


def table(jobs: list[str]) -> int:
    """Print the jobs that run, in lines as Torque's qstat and Grid Engine's have them; both leave out ended ones."""
    print("job-ID  name  user  time/prior  state", "-" * 60, sep="\n")
    for job in jobs:
        if running(number_of(job)):
            print(job, "parsl", "me", "0", "R", "queue")
    return 0


def running(number: int) -> bool:
    """Whether the job's script hasn't ended."""
    try:
        pid = (STATE / f"{number}.pid").read_text()
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    sys.exit(main())
