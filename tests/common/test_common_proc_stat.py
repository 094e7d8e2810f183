"""What is read about a process out of /proc."""

import os
import subprocess
import sys
from pathlib import Path

from twinlock_common.proc_stat import PARENT, STARTED, STATE, field

PR_SET_NAME = 15  # linux/prctl.h


def test_a_child_is_known_whatever_it_calls_itself() -> None:
    code = f"import ctypes\nctypes.CDLL(None).prctl({PR_SET_NAME}, b'a) S 1 (b', 0, 0, 0)\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert Path(f"/proc/{child.pid}/comm").read_text() == "a) S 1 (b\n"
        assert field(child.pid, PARENT) == str(os.getpid())
        assert int(field(child.pid, STARTED) or 0) >= int(field(os.getpid(), STARTED) or 0) > 0
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert field(child.pid, STATE) == "Z"
    assert field(child.pid, STATE) is None


def test_what_isnt_there_is_not_known() -> None:
    assert field(os.getpid(), 1000) is None
    assert field(-1, PARENT) is None
