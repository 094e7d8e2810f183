"""Why batch jobs wait: what each scheduler is asked about it, and how its answer is read.

A reason is text for people. Whatever a command answers that isn't understood is no reason, and never an error: options
and formats differ between releases.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

_LONGEST = 300
_AFTER_FAILURE_S = 300.0
_NUMBER = re.compile(r"\d+")

_ANALYSIS = (
    r"^\s*Reason(?: for last match failure)?: (.+)",
    r"^(.*not yet been considered by the matchmaker.*)",
    r"^ +([1-9]\d* (?:slots )?(?:are rejected|reject|match but) .+)",
)
"""The lines of condor_q's analysis that say what stands in the way of a match; counts of 0 say nothing."""

_HOLDERS = {"u": "the user", "o": "an operator", "s": "the system"}
"""By a letter of the attribute Hold_Types, as qstat(1B) has it."""


@dataclass(frozen=True, slots=True)
class Question:
    """A shell command that asks for the reasons of several jobs, and the form of its answer."""

    command: str
    """With `{jobs}` where their ids belong."""
    head: str
    """The pattern of what begins a job's part of the answer. Its group is the number that the job's id begins with."""
    reason: Callable[[str], str]
    """The reason in what follows the head, until the next one; empty where there is none."""
    separator: str = " "
    """What stands between two ids in the command."""
    every_s: float = 0.0
    """The least time between two such questions, for those that cost the scheduler much. Answers are kept as long."""


def brief(reason: str) -> str:
    """Return the reason on one line, with a limit."""
    return " ".join(reason.split()).rstrip("; ")[:_LONGEST]


def _first_line(text: str) -> str:
    line = text.partition("\n")[0].strip()
    return "" if line in ("None", "(null)") else line


def _all(text: str) -> str:
    return "" if _first_line(text) == "-" else text


def _of_pbs(text: str) -> str:
    """Read lines of `    NAME = VALUE`, of which a long one goes on behind a tabulator."""
    attributes = dict(re.findall(r"^    (\w+) = (.*)$", text.replace("\n\t", ""), re.MULTILINE))
    holders = [_HOLDERS[letter] for letter in attributes.get("Hold_Types", "") if letter in _HOLDERS]
    return attributes.get("comment") or (f"held by {', '.join(holders)}" if holders else "")


def _of_grid_engine(text: str) -> str:
    """Read a line for each host and queue, and what holds for the job itself.

    In parentheses is why there is nothing to tell.
    """
    info = re.search(r"^scheduling info: +(.*(?:\n[ \t]+\S.*)*)", text, re.MULTILINE)
    lines = [line.strip() for line in info[1].splitlines()] if info else []
    told = [re.sub(r'(queue instance|queue|host) "[^"]*"', r"\1 …", line) for line in lines if not line.startswith("(")]
    counts = Counter(told)
    of_the_job_first = sorted(counts, key=lambda line: line.startswith("queue"))
    return "; ".join(line if counts[line] == 1 else f"{line} ({counts[line]} times)" for line in of_the_job_first)


def _of_condor(text: str) -> str:
    return "; ".join(found for pattern in _ANALYSIS for found in re.findall(pattern, text, re.MULTILINE))


SLURM = (Question("squeue{where} --noheader --format='%i %r' --job {jobs}", r"^(\d+)\S* +", _first_line, ","),)
"""For sites where sacct(1) tells the states; its database doesn't know the reasons. `{where}` names the clusters."""

LSF = (
    Question("bjobs -noheader -o \"jobid pend_reason delimiter='^'\" {jobs}", r"^(\d+)(?:\[\d+\])?\^", _all),
    # Releases before 10.1 don't know the field; and it says nothing of suspended jobs.
    Question("bjobs -ps {jobs}", r"^(\d+)(?:\[\d+\])? +\S+ +(?:PEND|[PUS]SUSP) .*$", _all),
)
PBS = (Question("qstat -f {jobs}", r"^Job Id: *(\d+).*$", _of_pbs),)
"""For Torque, and for PBS Pro if its JSON has no comment."""

GRID_ENGINE = (Question("qstat -j {jobs}", r"^job_number: +(\d+).*$", _of_grid_engine, ","),)
"""It answers if its administrator has set schedd_job_info in the scheduler's configuration, see sched_conf(5)."""

CONDOR = (Question("condor_q -better-analyze {jobs}", r"^0*(\d+)\.\d+: +", _of_condor, every_s=300),)
"""This costs much: the collector sends the descriptions of all machines."""


class Inquiry:
    """The questions to a scheduler, each only about jobs whose reason no earlier one told. Times are monotonic."""

    def __init__(
        self,
        questions: Sequence[Question],
        run: Callable[[str], tuple[int, str, str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without answers. `run` gives a shell command's exit code, output and errors."""
        self._questions = questions
        self._run = run
        self._clock = clock
        self._due: dict[Question, float] = {}
        self._answers: dict[Question, dict[str, str]] = {}

    def reasons(self, jobs: Sequence[str]) -> dict[str, str]:
        """Return why these jobs wait, by id; only of those whose reason is known."""
        found: dict[str, str] = {}
        for question in self._questions:
            missing = [job for job in jobs if job not in found]
            if missing:
                found |= self._answer(question, missing)
        return found

    def _answer(self, question: Question, jobs: Sequence[str]) -> dict[str, str]:
        if self._clock() >= self._due.get(question, float("-inf")):
            self._answers[question] = self._ask(question, jobs)
        answers = self._answers[question]
        numbers = {job: _number(job) for job in jobs}
        return {job: answers[number] for job, number in numbers.items() if number in answers}

    def _ask(self, question: Question, jobs: Sequence[str]) -> dict[str, str]:
        """Put a question.

        One that fails, such as for an option that this release doesn't know, isn't put again for a while.
        """
        code, output, _ = self._run(question.command.replace("{jobs}", question.separator.join(jobs)))
        answers = _read(question, output)
        pause = _AFTER_FAILURE_S if code and not answers else question.every_s
        self._due[question] = self._clock() + pause
        return answers


def answer(question: Question, run: Callable[[str], tuple[int, str, str]], job: str) -> str:
    """Return what this question about one job is answered; empty if nothing is known."""
    _, output, _ = run(question.command.replace("{jobs}", job))
    return _read(question, output).get(_number(job), "")


def _read(question: Question, output: str) -> dict[str, str]:
    """Return the reasons by the jobs' numbers. A job with several parts, as an array has, may have several."""
    _, *parts = re.split(question.head, output, flags=re.MULTILINE)
    found: dict[str, dict[str, None]] = {}
    for number, text in zip(parts[::2], parts[1::2], strict=True):
        if reason := brief(question.reason(text)):
            found.setdefault(number, {})[reason] = None
    return {number: brief("; ".join(reasons)) for number, reasons in found.items()}


def _number(job: str) -> str:
    found = _NUMBER.match(job)
    return found[0] if found else job
