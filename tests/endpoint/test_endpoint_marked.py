"""Jobs that say for whom they run, as each scheduler's command gets them, whatever the person is called."""

import re
from pathlib import Path
from typing import Any

import pytest
from twinlock_endpoint.htex import parsl_types
from twinlock_endpoint.job_origin import JobOrigin

ENDPOINT = "9f0b1c2d-0000-4000-8000-000000000001"
MANAGER = "4b116d3c-0000-4000-8000-000000000002"
ALL = f"person=ada@uni.example,endpoint={ENDPOINT},manager={MANAGER}"
NAME = f"ada_uni.example.{ENDPOINT}.{MANAGER}.parsl.label.block-0."
SHORT = "ada_uni.example.parsl.label.block-0."
SAID = {
    "SlurmProvider": ("sbatch", "Submitted batch job 7"),
    "PBSProProvider": ("qsub", "7.server"),
    "TorqueProvider": ("qsub", "7.server"),
    "GridEngineProvider": ("qsub", "7"),
    "LSFProvider": ("bsub", "Job <7> is submitted to queue <normal>."),
    "CondorProvider": ("condor_submit", "1 job(s) submitted to cluster 7."),
}
"""By provider the command that submits, and what it prints."""
WANTED = {
    "SlurmProvider": [f"#SBATCH --job-name={SHORT}", f"#SBATCH --comment={ALL}\n"],
    "PBSProProvider": [f"#PBS -N {NAME}"],
    "TorqueProvider": [f"#PBS -N parsl.{NAME}"],
    "GridEngineProvider": [],
    "LSFProvider": [f"#BSUB -J {SHORT}", f"#BSUB -Jd {ALL}\n"],
    "CondorProvider": [f"description = {ALL}\n"],
}
HOSTILE = [
    "ada\n#SBATCH --uid=0\n#PBS -u root\n#BSUB -u root\n+Owner = root\ntouch /tmp/x\n",
    "$(touch x)`touch x`${HOME};touch x|'\"\\ %j %% {0} {}",
    "x,endpoint=other,manager=other",
    "a" * 10_000,
    "\x00\x1b[31m\u202e\u2028\x85Ada L\u00f6velace",
    "",
    "-uroot",
    "0000-0002@orcid.org",
]


def submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, who: str | None, options: str = ""
) -> tuple[str, str]:
    """The name of the job's script and its text, of a job that is submitted for this person."""
    command, said = SAID[kind]
    (tmp_path / "scripts").mkdir(exist_ok=True)
    program = tmp_path / command
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    provider: Any = parsl_types.provider({"type": kind, "scheduler_options": options})
    provider.script_dir = str(tmp_path / "scripts")
    if who is not None:
        provider.origin = JobOrigin("person", who, ENDPOINT, MANAGER)
    provider.submit("true", 1, "parsl.label.block-0")
    (script,) = (path for path in (tmp_path / "scripts").iterdir() if path.suffix != ".script")
    text = script.read_text()
    for path in (tmp_path / "scripts").iterdir():
        path.unlink()
    return script.name, text


@pytest.mark.parametrize("kind", SAID)
def test_a_job_names_its_person_and_both_endpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    name, text = submitted(tmp_path, monkeypatch, kind, "ada@uni.example")
    assert [line for line in WANTED[kind] if line not in text] == []
    assert "ada_uni.example" in name, "Grid Engine's jobs are called like their scripts"


@pytest.mark.parametrize("kind", SAID)
def test_a_job_is_as_parsl_makes_it_if_nobody_is_to_be_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name, text = submitted(tmp_path, monkeypatch, kind, None)
    assert re.fullmatch(r"(parsl\.)?parsl\.label\.block-0\.[\d.]+(\.submit)?", name)
    assert not re.search("comment|-Jd|description", text)


@pytest.mark.parametrize("who", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", SAID)
def test_no_name_of_a_person_makes_a_line_of_the_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, who: str
) -> None:
    """The script has the lines that it has for anybody, and in those with a name nothing that means something else."""
    _, usual = submitted(tmp_path, monkeypatch, kind, "ada@uni.example")
    name, text = submitted(tmp_path, monkeypatch, kind, who)
    assert len(text.splitlines()) == len(usual.splitlines())
    pairs = zip(text.splitlines(), usual.splitlines(), strict=True)
    named = [line for line, other in pairs if line != other]
    assert [line for line in named if not re.fullmatch(r"(#\$ )?[A-Za-z0-9@.,+:/_#=\"' -]{,500}", line)] == []
    assert text.count("endpoint=") == usual.count("endpoint=")
    assert len(name) < 240, "a file's name has at most 255 characters, and PBS takes 230 of them"
    assert name[0].isalpha(), "Grid Engine and Torque want a letter"


@pytest.mark.parametrize(
    ("kind", "own"),
    [
        ("SlurmProvider", "#SBATCH --comment=ours"),
        ("LSFProvider", "#BSUB -Jd ours"),
        ("CondorProvider", "Description = ours"),
    ],
)
def test_a_comment_of_the_templates_own_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, own: str
) -> None:
    _, text = submitted(tmp_path, monkeypatch, kind, "ada@uni.example", own)
    assert own in text
    assert "person=" not in text


def test_a_name_of_the_templates_own_comes_last_so_that_slurm_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, text = submitted(tmp_path, monkeypatch, "SlurmProvider", "ada@uni.example", "#SBATCH --job-name=ours")
    names = [line for line in text.splitlines() if line.startswith("#SBATCH --job-name")]
    assert names[-1] == "#SBATCH --job-name=ours"


def test_a_job_that_is_refused_has_no_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torque's provider returns nothing then, which Parsl takes for a refusal."""
    (tmp_path / "qsub").write_text("#!/bin/sh\necho 'qsub: no hours are left' >&2\nexit 1\n")
    (tmp_path / "qsub").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    provider: Any = parsl_types.provider({"type": "TorqueProvider"})
    provider.script_dir = str(tmp_path)
    assert not provider.submit("true", 1, "parsl.label.block-0")
