#!/usr/bin/python3 -I
"""Stands in for the commands of PBS Pro, Torque, Grid Engine, LSF and HTCondor, by the name under which it is called.

Jobs run at once, on this host, as whoever submits. STANDIN is a folder: a file N.job for each job with what was
asked, N.pid while it runs. Where STANDIN/refuse exists, submissions fail with the text in it. With STANDIN/took they
seem to fail though the job runs, with the text in it; with STANDIN/silent they print nothing, and with STANDIN/banner
this text around the id; while STANDIN/slow exists, they don't end. STANDIN/N.state is what the job is said to be,
`forgotten` for one that the scheduler no longer knows. With STANDIN/odd, commands that ask for jobs end with the exit
code in it, and print the words behind that alone. While STANDIN/hold exists, jobs are held. With STANDIN/brief PBS
keeps no history, with STANDIN/broken it prints what is no JSON. STANDIN/why is a JSON object of what questions for
reasons are answered: by words of the command line the exit code and the output, all others fail; STANDIN/asked gets a
line for each such question.
"""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
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
            if running(number):
                with suppress(OSError):
                    os.killpg(int(wish(f"{number}.pid")), signal.SIGKILL)
        return 0
    if odd := wish("odd"):
        code, _, said = odd.partition(" ")
        print(said, end="", file=sys.stderr)
        return int(code)
    return answer(name, words)


def wish(name: str) -> str:
    """What stands in this file of the folder; nothing where there is none, or none any more."""
    with suppress(FileNotFoundError):
        return (STATE / name).read_text()
    return ""


def put(name: str, text: str) -> None:
    """Make a file of the folder, which nobody sees before it is whole."""
    draft = STATE / f"{name}.draft"
    draft.write_text(text)
    draft.rename(STATE / name)


def answer(name: str, words: list[str]) -> int:
    """Answer a command that asks for jobs; its exit code."""
    if (asks_why(words) or name in ("qacct", "condor_history")) and (STATE / "why").exists():
        return explain(name, words)
    if (STATE / "brief").exists() and name == "qstat" and "-x" in words:
        print("qstat: PBS is not configured to maintain job history", file=sys.stderr)
        return 1
    if name == "qselect":
        print(*(f"{number}.server" for number in named(words[1])), sep="\n")
        return 0
    jobs = [word for word in words if word[0].isdigit()]
    if "-j" in words:
        return exists(words[1])
    if "-J" in words:
        return print_named(words[-1])
    known = [job for job in jobs if state(job) != "forgotten"]
    if name == "qstat" and "json" not in words:
        return table(known if jobs else [path.stem for path in STATE.glob("*.job")], jobs)
    if name == "condor_q" and "-af:jr" not in words:
        return condor(words, known)
    return status(name, known) or complain(name, jobs, known)


def asks_why(words: list[str]) -> bool:
    """Whether these are the arguments of a question for reasons."""
    asked = re.search("pend_reason|exit_reason", " ".join(words)) or "-ps" in words or "-better-analyze" in words
    return bool(asked) or words[:1] == ["-j"] or (words[:1] == ["-f"] and "json" not in words)


def explain(name: str, words: list[str]) -> int:
    """Answer a question for reasons as the test wants it; the exit code."""
    with (STATE / "asked").open("a") as asked:
        print(name, *words, file=asked)
    for word, (code, output) in json.loads((STATE / "why").read_text()).items():
        if word in " ".join([name, *words]):
            print(output, end="")
            return int(code)
    print(f"{name}: invalid option", file=sys.stderr)
    return 255


def number_of(job: str) -> int:
    """The job's number in its id, as each scheduler writes one."""
    return int(job.split(".")[0])


def submit(name: str, words: list[str]) -> int:
    """Start the job's script, and say its id as the scheduler does."""
    if refusal := wish("refuse"):
        print(refusal, file=sys.stderr)
        return 1
    number = len(list(STATE.glob("*.job"))) + 1
    text = Path(words[-1]).read_text() if words else sys.stdin.read()
    put(f"{number}.job", f"{name} {' '.join(words)}\n{text}")
    script = words[-1] if words else str(STATE / f"{number}.script")
    if name == "bsub":
        Path(script := str(STATE / f"{number}.script")).write_text(text)
    if name == "condor_submit":
        (script,) = re.findall(r"transfer_input_files\s*= *([^,\n]+)", text)
    held = f"while [ -e {STATE}/hold ]; do sleep 0.1; done; exec /bin/bash {shlex.quote(script)}"
    with open(STATE / f"{number}.out", "w") as output:
        job = subprocess.Popen(
            ["/bin/bash", "-c", held],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, "STANDIN_JOB": str(number)},
        )
    put(f"{number}.pid", str(job.pid))
    said = {
        "qsub": str(number) if "-terse" in words else f"{number}.server",
        "bsub": f"Job <{number}> is submitted to queue <normal>.",
        "condor_submit": f"Submitting job(s).\n1 job(s) submitted to cluster {number}.",
    }
    while (STATE / "slow").exists():
        time.sleep(0.1)
    if took := wish("took"):
        print(took, file=sys.stderr)
        return 1
    if not (STATE / "silent").exists():
        print(wish("banner"), said[name], wish("banner"), sep="\n")
    return 0


def named(name: str) -> list[int]:
    """The jobs of this name that haven't ended: it stands in the job's script, or is that of the script."""
    found = []
    for path in STATE.glob("*.job"):
        asked, *_ = text = path.read_text().splitlines()
        stated = {f"#PBS -N {name}", f"#BSUB -J {name}"}.intersection(text)
        if (stated or asked.endswith(f"/{name}")) and running(int(path.stem)):
            found.append(int(path.stem))
    return found


def print_named(name: str) -> int:
    """Print the jobs of this name as LSF does."""
    found = named(name)
    if not found:
        print(f"Job <{name}> is not found", file=sys.stderr)
        return 255
    print(*found, sep="\n")
    return 0


def state(job: str) -> str:
    """What the job is said to be: a letter of qstat's, or `forgotten`."""
    if said := wish(f"{number_of(job)}.state"):
        return said
    if (STATE / "hold").exists():
        return "H"
    return "R" if running(number_of(job)) else "F"


def status(name: str, jobs: list[str]) -> int:
    """Print what is known of the jobs."""
    states = {job: state(job) for job in jobs}
    if name == "qstat":
        shown = json.dumps({"Jobs": {job: {"job_state": letter} for job, letter in states.items()}})
        print(shown.replace("{", '{"Variable_List": {"quoted": "a"b"}, ') if (STATE / "broken").exists() else shown)
    condor_says = {
        "R": ["2", "undefined", "undefined"],
        "F": ["4", "undefined", "undefined"],
        "H": ["5", '"via condor_hold (by user \\"me\\")"', '"no match found"'],
        "unmatched": ["1", "undefined", '"no match found"'],
    }
    for job, letter in states.items():
        if name == "bjobs":
            print(job, {"R": "RUN", "F": "DONE", "H": "USUSP"}.get(letter, letter))
        elif name == "condor_q":
            print(job, *condor_says.get(letter, [letter, "undefined", "undefined"]))
    return 0


def condor(words: list[str], known: list[str]) -> int:
    """Print a list of jobs as HTCondor does it: those with an attribute, or with a head those that were asked for."""
    if "-constraint" in words:
        (wanted,) = re.findall(r'"(.*)\.script"', " ".join(words))
        print(*(f"{number}.0 2" for number in named(f"{wanted}.submit")), sep="\n")
    else:
        print("-- Schedd: here : <127.0.0.1:9618>", *(f"{job} me R script" for job in known), sep="\n")
    return 0


def complain(name: str, jobs: list[str], known: list[str]) -> int:
    """Say which of the jobs aren't known; the exit code."""
    unknown = [job for job in jobs if job not in known] if name != "condor_q" else []
    for job in unknown:
        said = f"Job <{job}> is not found" if name == "bjobs" else f"qstat: Unknown Job Id {job}"
        print(said, file=sys.stderr)
    return (255 if name == "bjobs" else 153) if unknown else 0


def table(shown: list[str], asked: list[str]) -> int:
    """Print the jobs that run, in lines as Torque's qstat and Grid Engine's have them; both leave out ended ones."""
    alive = [job for job in shown if state(job) not in ("F", "forgotten")]
    print("job-ID  name  user  time/prior  state", "-" * 60, sep="\n")
    spelt = {} if asked else {"R": "r", "H": "hqw"}  # only Torque is asked for single jobs
    for job in alive:
        print(job, "parsl", "me", "0", spelt.get(state(job), state(job)), "queue")
    return complain("qstat", asked, alive)


def exists(asked: str) -> int:
    """Whether Grid Engine knows the job of this number or name, as `qstat -j` says it."""
    job = asked if asked.isdigit() else str(next(iter(named(asked)), ""))
    if not job or state(job) in ("F", "forgotten"):
        print(f"Following jobs do not exist:\n{asked}", file=sys.stderr)
        return 1
    print(f"job_number:                 {job}")
    if "E" in state(job):
        print("error reason    1:          can't chdir to /home/me")
    return 0


def running(number: int) -> bool:
    """Whether the job's script hasn't ended. Another process, of anybody, may have got its number meanwhile."""
    pid = wish(f"{number}.pid")
    variables: list[bytes] = []
    with suppress(OSError):
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") if pid else []
    return {f"STANDIN_JOB={number}".encode(), f"STANDIN={STATE}".encode()} <= set(variables)


if __name__ == "__main__":
    sys.exit(main())
