"""Files with secrets in them: nobody else reads them, and they are written where they seem to be."""

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twinlock_service.errors import StartError
from twinlock_service.state.database import open_database
from twinlock_service.state.private_files import open_private, replacing_private

NOBODY = 65534


def readable_by_all(path: Path) -> Path:
    """An empty file."""
    path.touch()
    path.chmod(0o666)
    return path


@pytest.mark.parametrize("write", [open_private, replacing_private])
def test_a_file_that_others_may_read_is_closed_to_them(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    path = readable_by_all(tmp_path / "amqp.json")
    with write(path) as file:
        file.write("sesame")
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("sesame", 0o600)


def test_a_draft_that_a_crash_has_left_is_closed_too(tmp_path: Path) -> None:
    readable_by_all(tmp_path / "amqp.new")
    with replacing_private(tmp_path / "amqp.json") as file:
        assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become somebody else")
def test_somebody_elses_file_is_named(folder: Path) -> None:
    """Whoever may write it may still not close it."""
    path = readable_by_all(folder / "service.sqlite")
    program = "import sys; from twinlock_service.state.private_files import open_private; open_private(sys.argv[1])"
    argv = [sys.executable, "-c", program, str(path)]
    shown = subprocess.run(argv, user=NOBODY, group=NOBODY, extra_groups=[], cwd="/", capture_output=True, text=True)
    assert f"PermissionError: [Errno 1] Operation not permitted: '{path}'" in shown.stderr


@pytest.mark.parametrize("write", [open_private, open_database])
def test_a_link_is_refused(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / "service.sqlite"
    theirs.write_text("theirs")
    link.symlink_to(theirs)
    with pytest.raises(StartError, match=f"{link} is a symbolic link; move the file itself here"):
        write(link)
    assert theirs.read_text() == "theirs"


def test_a_link_is_replaced_where_the_whole_file_is(tmp_path: Path) -> None:
    theirs, link = tmp_path / "theirs", tmp_path / "amqp.json"
    theirs.write_text("theirs")
    link.symlink_to(theirs)
    with replacing_private(link) as file:
        file.write("sesame")
    assert (theirs.read_text(), link.is_symlink(), link.read_text()) == ("theirs", False, "sesame")
