"""`twinlock-endpoint --check`: the loader's word about configurations, and no endpoint."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from verified_rig import THREADS, Host

PROGRAM = Path(sys.executable).with_name("twinlock-endpoint")


def check(*configs: object, environment: Mapping[str, str] | None = None, audited: object = False) -> Any:
    """The process's outcome."""
    asked = json.dumps({"configs": configs, "environment": environment or {}, "audited": audited})
    return run(asked)


def run(asked: str) -> "subprocess.CompletedProcess[str]":
    """The same for whatever stands on its standard input."""
    own = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    argv = [str(PROGRAM), "--check"]
    return subprocess.run(argv, input=asked, env=own, capture_output=True, text=True, timeout=120, check=False)


def answers(*configs: str, environment: Mapping[str, str] | None = None, audited: bool = False) -> list[dict[str, str]]:
    """Its answers."""
    done = check(*configs, environment=environment, audited=audited)
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


SLURM = (
    "engine: {type: GlobusComputeEngine, provider: {type: SlurmProvider, partition: p, launcher: {type: SrunLauncher}}}"
)


@pytest.mark.parametrize(
    "config",
    [
        "engine: {type: ThreadPoolEngine}",
        "engine: {type: ProcessPoolEngine, max_workers: 2}",
        "engine: {type: GlobusComputeEngine}",
        "engine: {type: GlobusMPIEngine, provider: {type: PBSProProvider, launcher: {type: SimpleLauncher}}}",
        SLURM,
    ],
)
def test_what_can_be_loaded(config: str) -> None:
    assert answers(config) == [{}]


def test_each_gets_an_answer_of_its_own() -> None:
    wrong = SLURM.replace("SlurmProvider", "SlurmProvder")
    cloud = "engine: {type: GlobusComputeEngine, provider: {type: AWSProvider}}"
    found = answers(SLURM, wrong, "engine: [", cloud, SLURM)
    assert [list(answer) for answer in found] == [[], ["wrong"], ["wrong"], ["skipped"], []]
    assert "did you mean 'SlurmProvider'" in found[1]["wrong"]
    assert "not YAML" in found[2]["wrong"]
    assert "AWSProvider" in found[3]["skipped"]


def test_an_audited_endpoint_has_to_be_encrypted() -> None:
    config = "engine: {type: GlobusComputeEngine, encrypted: false}"
    assert answers(config) == [{}]
    [answer] = answers(config, audited=True)
    assert "encrypted: true" in answer["wrong"]


def test_the_variables_are_in_force(tmp_path: Path) -> None:
    """PYTHONPATH is read as Python starts: here it leads to another Parsl, which can't be imported."""
    (tmp_path / "parsl").mkdir()
    (tmp_path / "parsl" / "__init__.py").write_text(
        "print('not an answer')\nraise RuntimeError('the site has its own')\n"
    )
    [answer] = answers("engine: {type: GlobusComputeEngine}", environment={"PYTHONPATH": str(tmp_path)})
    assert answer["wrong"]
    assert answers("engine: {type: GlobusComputeEngine}", environment={"SITE": "x", "GC_X": "y"}) == [{}]


def test_variables_that_python_cannot_start_with() -> None:
    done = check("engine: {type: ThreadPoolEngine}", environment={"PYTHONHOME": "/nowhere"})
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert "PYTHONHOME" in done.stderr


@pytest.mark.parametrize("asked", ["", "7", "[]", "{}", '{"configs": "x", "audited": false}', '{"configs": []}'])
def test_what_is_no_question(asked: str) -> None:
    done = run(asked)
    assert (done.returncode, done.stdout) == (os.EX_DATAERR, "")
    assert "start document" in done.stderr


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """Root's files."""
    if os.geteuid() != 0:
        pytest.skip("needs root, whose files these have to be")
    return Host(tmp_path, "amqp://u:p@127.0.0.1:5672/v")


def check_verified(host: Host, *configs: str) -> "subprocess.CompletedProcess[str]":
    """The outcome for an endpoint in verified mode."""
    asked = json.dumps({"configs": configs, "environment": {"PYTHONHOME": "/nowhere"}, "audited": False})
    argv = [str(PROGRAM), "--verified", str(host.folder / "verified.toml"), "--check"]
    own = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    return subprocess.run(argv, input=asked, env=own, capture_output=True, text=True, timeout=120, check=False)


def test_in_verified_mode_some_keys_are_refused(host: Host) -> None:
    """And of the variables those of root's count."""
    host.write("endpoint/user_environment.yaml", "LD_BIND_NOW: 1\n")
    done = check_verified(host, THREADS, f"{THREADS}log_dir: /tmp\n", THREADS)
    assert (done.returncode, done.stderr) == (0, "")
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [list(answer) for answer in found] == [[], ["wrong"], []]
    assert "'log_dir', which an endpoint in verified mode" in found[1]["wrong"]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("verified.toml", "site = 7\n", "site is 7"),
        ("endpoint/user_config_schema.json", "{", "user_config_schema.json can't be used"),
        ("endpoint/user_environment.yaml", "- x\n", "user_environment.yaml can't be used"),
    ],
)
def test_files_of_roots_that_no_endpoint_in_verified_mode_could_use(
    host: Host, name: str, text: str, words: str
) -> None:
    host.write(name, text)
    done = check_verified(host, THREADS)
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert words in done.stderr
