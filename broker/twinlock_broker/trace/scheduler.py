"""What Slurm says about batch jobs: `sacct`, or `squeue` where nothing is accounted."""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twinlock_broker.printable import printable
from twinlock_broker.trace.event import Event, Source

LIMIT = 20.0
"""Seconds that a command may take."""

MOST = 500
"""Jobs that are asked about, the last ones."""

_FORM = re.compile(r"[0-9]{1,12}")
_LONGEST = 300
_SACCT = (
    "sacct",
    "--allocations",
    "--allusers",
    "--noheader",
    "--parsable2",
    "--format=JobIDRaw,User,State,ExitCode,NodeList,Submit,Start,End",
)
_SQUEUE = ("squeue", "--states=all", "--noheader", "--format=%A|%u|%T||%N|%V|%S|%e")


@dataclass(frozen=True, slots=True)
class Job:
    """A batch job. Times are in seconds since 1970, 0 if they aren't known or still to come."""

    id: str
    user: str
    state: str
    code: str
    """Exit code and signal, with a colon between them; empty if it isn't known."""
    nodes: str
    submitted: float
    started: float
    ended: float

    def events(self, request: str, endpoint: str) -> Iterator[Event]:
        """Yield what has happened to it; a start or an end that the scheduler expects hasn't."""
        code = f", exit code {self.code}" if self.code else ""
        happened = (
            (self.submitted, f"batch job {self.id} of {self.user} was submitted; now {self.state}"),
            (self.started, f"batch job {self.id} started on {self.nodes or 'unknown nodes'}"),
            (self.ended, f"batch job {self.id} ended as {self.state}{code}"),
        )
        for moment, text in happened:
            if 0 < moment <= time.time():
                shown = printable(text, _LONGEST)
                yield Event(moment, Source.SCHEDULER, shown, request, endpoint, self.user, jobs=(self.id,))


def ask(ids: Sequence[str]) -> dict[str, Job]:
    """Return what is known of these jobs, by their ids; nothing without Slurm, or if it doesn't answer in time."""
    asked = [each for each in dict.fromkeys(ids) if _FORM.fullmatch(each)][-MOST:]
    if not asked:
        return {}
    for command in (_SACCT, _SQUEUE):
        found = {job.id: job for job in _jobs(_output((*command, f"--jobs={','.join(asked)}")))}
        if found:
            return found
    return {}


def _output(argv: Sequence[str]) -> str:
    program = shutil.which(argv[0])
    if program is None:
        return ""
    environment = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "SLURM_TIME_FORMAT": "%s"}
    environment |= {name: os.environ[name] for name in ("SLURM_CONF",) if name in os.environ}
    try:
        done = subprocess.run(
            (program, *argv[1:]),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("utf-8", "replace")


def _jobs(output: str) -> Iterator[Job]:
    for line in output.splitlines():
        values = line.split("|")
        if len(values) == 8 and _FORM.fullmatch(values[0]):
            submitted, started, ended = (float(text) if text.isdecimal() else 0.0 for text in values[5:])
            job, user, state, code, nodes = values[:5]
            yield Job(job, user, state, code, nodes, submitted, started, ended)
