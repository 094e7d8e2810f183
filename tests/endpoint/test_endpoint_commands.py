"""endpoint_setup and endpoint_teardown."""

import os
import signal
from pathlib import Path

import pytest
from endpoint_rig import until
from process_trees import lives
from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.home import hooks


def test_the_shell_runs_it(tmp_path: Path) -> None:
    hooks.run("endpoint_setup", f"echo a > {tmp_path}/one && echo b > {tmp_path}/two")
    assert (tmp_path / "two").read_text() == "b\n"


def test_a_failure_says_what_was_printed() -> None:
    with pytest.raises(ConfigError, match=r"endpoint_setup command failed with exit code 3\. It printed: no module x"):
        hooks.run("endpoint_setup", "echo no module x >&2; exit 3")


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    draft, pid = tmp_path / "draft", tmp_path / "pid"
    limit_s = 1
    while not pid.exists():  # the shell of a busy host may take longer to get there
        limit_s *= 2
        with pytest.raises(ConfigError, match=f"did not end within {limit_s} s"):
            hooks.run("endpoint_setup", f"sleep 1000 & echo $! > {draft}; mv {draft} {pid}; wait", limit_s)
    until(lambda: not lives(int(pid.read_text())))


def test_something_may_be_left_running(tmp_path: Path) -> None:
    hooks.run("endpoint_setup", f"sleep 1000 & echo $! > {tmp_path}/pid", limit_s=60)
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
