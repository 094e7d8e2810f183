"""How batch jobs ended, as each scheduler tells it for a while: exit code, signal, and the reason.

As with reasons for waiting, an answer that isn't understood is none.
"""

import re

from twinlock_endpoint.htex.providers.reasons import Question

_VALUE = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_SIGNALS_FROM = 256
"""Torque adds the signal that ended a job to this."""


def _of_lsf(text: str) -> str:
    """Read two fields. A reason is a word such as TERM_RUNLIMIT with an explanation."""
    code, _, reason = text.partition("\n")[0].partition("^")
    exit_code = f"exit code {code}" if code.isdigit() and code != "0" else ""
    return ", ".join(part for part in (exit_code, reason.strip()) if part not in ("", "-"))


def _of_torque(text: str) -> str:
    found = re.search(r"^    exit_status = (-?\d+)$", text, re.MULTILINE)
    status = int(found[1]) if found else 0
    if status > _SIGNALS_FROM:
        return f"signal {status - _SIGNALS_FROM}"
    return f"exit code {status}" if status else ""


def _of_grid_engine(text: str) -> str:
    """Read lines of a name and a value, of which `failed` has a number and words."""
    facts = dict(re.findall(r"^(\w+) +(.*?) *$", text, re.MULTILINE))
    status = facts.get("exit_status", "0")
    failed = facts.get("failed", "").partition(":")[2].strip()
    return ", ".join(part for part in ("" if status == "0" else f"exit code {status}", failed) if part)


def _of_condor(text: str) -> str:
    """Read three attributes, texts in quotes; `undefined` if there is none."""
    values = _VALUE.findall(text.partition("\n")[0])
    if len(values) != 3:
        return ""
    forms = (f"exit code {values[0]}", f"signal {values[1]}", values[2].strip('"'))
    return ", ".join(form for form, value in zip(forms, values, strict=True) if value not in ("undefined", "0"))


LSF = Question(
    "bjobs -noheader -o \"jobid exit_code exit_reason delimiter='^'\" {jobs}", r"^(\d+)(?:\[\d+\])?\^", _of_lsf
)
TORQUE = Question("qstat -f {jobs}", r"^Job Id: *(\d+).*$", _of_torque)
GRID_ENGINE = Question("qacct -j {jobs}", r"^jobnumber +(\d+) *$", _of_grid_engine)
CONDOR = Question("condor_history {jobs} -limit 1 -af:jr ExitCode ExitSignal RemoveReason", r"^(\d+)\.\d+ ", _of_condor)
