"""The command that starts a worker pool, as Parsl's launchers have it run."""

import shlex
import subprocess
import sys
from pathlib import Path

import parsl.launchers
import pytest
from twinlock_endpoint.htex.bundle import with_code

READ_BY_BASH = ("SimpleLauncher", "SingleNodeLauncher", "SrunLauncher")
POOL = f"""#!{sys.executable}
import sys
from parsl.executors.high_throughput import probe
print(probe.probe_addresses.__name__ != "probe_addresses", sys.argv[1:])
"""


@pytest.mark.cases(1)
@pytest.mark.parametrize("launcher", sorted(set(parsl.launchers.__all__)))
def test_each_launchers_shell_starts_the_pool(tmp_path: Path, launcher: str) -> None:
    """Most write the command into a script, through a here-document, which some then have read by another shell."""
    programs = tmp_path / "programs"
    programs.mkdir()
    pool = programs / "process_worker_pool.py"
    pool.write_text(POOL)
    pool.chmod(0o755)
    command = with_code('process_worker_pool.py -p 0 "a b"', tmp_path, "PBSProProvider", launcher).format().format()
    script = tmp_path / "command.sh"
    shell = "bash" if launcher in READ_BY_BASH else "dash"
    job = f"cat << EOF > {shlex.quote(str(script))}\n{command}\nEOF\n{shell} {shlex.quote(str(script))}"
    said = subprocess.run(
        ["bash", "-c", job], env={"PATH": f"{programs}:/usr/bin:/bin"}, capture_output=True, text=True, timeout=60
    )
    compares = launcher in READ_BY_BASH
    assert said.stdout == f"{compares} ['-p', '0', 'a b']\n", said.stderr
