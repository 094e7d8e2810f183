"""The endpoint's folder: logs that grow, folders that nobody uses, and who holds one."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from endpoint_rig import until
from twinlock_endpoint.config import configuration
from twinlock_endpoint.errors import HeldFolderError
from twinlock_endpoint.home import cleanup, folder, lock, output
from twinlock_endpoint.journal import frames, records
from twinlock_endpoint.journal.journal import has_unfinished
from twinlock_endpoint.task import Task

ENGINE = "engine: {type: ThreadPoolEngine}\n"
MANAGER = uuid.UUID(int=1)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where endpoints have their folders."""
    monkeypatch.setenv("GLOBUS_COMPUTE_USER_DIR", str(tmp_path))
    return tmp_path


def old(base: Path, days: float) -> Path:
    """The folder of an endpoint that ended so many days ago, with a file of a task in it."""
    made = base / f"uep.{MANAGER}.{uuid.uuid4()}"
    (made / "tasks_working_dir").mkdir(parents=True)
    (made / "tasks_working_dir" / "result").write_text("x")
    (made / "journal").mkdir()
    (made / "journal" / "00000001.journal").write_bytes(frames.HEADER)
    for name in ("endpoint.json", "endpoint.log", "lock"):
        (made / name).touch()
    age(made, days)
    return made


def age(made: Path, days: float) -> None:
    """Make everything in a folder look as old as that, and the folder too."""
    moment = time.time() - days * 86400
    for path in (made, *made.rglob("*")):
        os.utime(path, (moment, moment))


def prepare(text: str = "") -> Path:
    """A new endpoint's folder."""
    endpoint_id = str(uuid.uuid4())
    name = f"uep.{MANAGER}.{endpoint_id}"
    return folder.prepare(name, endpoint_id, configuration.load(ENGINE + text), has_unfinished)


def cleaned() -> bool:
    """Whether no thread looks for old folders any more."""
    return not any(thread.name == "clean" for thread in threading.enumerate())


def test_folders_that_were_not_used_for_the_configured_time_are_removed(base: Path) -> None:
    gone, young, strange = old(base, 31), old(base, 29), base / "uep.mine"
    strange.mkdir()
    own = prepare("keep_unused_days: 30")
    until(lambda: not gone.exists())
    assert young.exists()
    assert strange.exists()
    assert own.exists()


def test_a_process_may_prepare_its_folder_again(base: Path) -> None:
    """With another configuration, which it gets later."""
    endpoint_id = str(uuid.uuid4())
    name = f"uep.{MANAGER}.{endpoint_id}"
    made = folder.prepare(name, endpoint_id, configuration.defaults(), has_unfinished)
    later = configuration.load(ENGINE + "display_name: Mine\n")
    assert folder.prepare(name, endpoint_id, later, has_unfinished) == made
    assert json.loads((made / "endpoint.json").read_text())["display_name"] == "Mine"


@pytest.mark.parametrize("written", ["endpoint.json", "lock", "site.log", "journal/00000001.journal"])
def test_a_folder_is_used_whatever_its_log_is_called(base: Path, written: str) -> None:
    used, gone = old(base, 100), old(base, 100)
    (used / "endpoint.log").unlink()
    age(used, 100)
    descriptor = os.open(used / written, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, b"x")
    os.close(descriptor)
    os.utime(used, (0, 0))
    prepare("keep_unused_days: 30")
    until(cleaned)
    assert used.exists()
    assert not gone.exists()


@pytest.mark.parametrize("newer", [False, True])
def test_a_folder_with_unfinished_tasks_is_never_removed(base: Path, newer: bool) -> None:
    kept, gone = old(base, 1000), old(base, 1000)
    task = Task(str(uuid.uuid4()), "f", b"body", {}, ())
    begun = frames.HEADER + b"".join(frames.parts(records.taken(task, 1)))
    newer_header = frames.HEADER.replace(b"%03d" % frames.VERSION, b"%03d" % (frames.VERSION + 1))
    (kept / "journal" / "00000001.journal").write_bytes(newer_header if newer else begun)
    (gone / "journal" / "00000001.journal").write_bytes(begun + b"".join(frames.parts(records.done(task.id))))
    age(kept, 1000)
    age(gone, 1000)
    prepare("keep_unused_days: 1")
    until(cleaned)
    assert kept.exists()
    assert not gone.exists()


def test_without_the_key_nothing_is_removed(base: Path) -> None:
    kept, removed = old(base, 1000), old(base, 1000)
    prepare()
    cleanup.clean(base, kept, 1, has_unfinished)
    until(lambda: not removed.exists())
    assert kept.exists()


def test_a_folder_that_an_endpoint_holds_is_not_removed(base: Path) -> None:
    held, gone = old(base, 1000), old(base, 1000)
    with open(held / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        prepare("keep_unused_days: 1")
        until(lambda: not gone.exists())
        assert held.exists()


def test_a_link_out_of_the_folder_is_not_followed(base: Path, tmp_path: Path) -> None:
    outside, gone = tmp_path / "precious", old(base, 1000)
    outside.mkdir()
    os.utime(outside, (0, 0))
    (base / f"uep.{MANAGER}.{uuid.uuid4()}").symlink_to(outside)
    prepare("keep_unused_days: 1")
    until(lambda: not gone.exists())
    assert outside.exists()


def test_two_endpoints_of_one_name_dont_share_a_folder(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_REMOVAL_S", 0.2)
    made = old(base, 0)
    with open(made / "lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 7 on a host")
        held.flush()
        with pytest.raises(HeldFolderError, match=r"still runs \(process 7 on a host\)"):
            folder.prepare(made.name, "x", configuration.load(ENGINE), has_unfinished)


def test_a_folder_that_is_removed_in_the_same_moment_is_made_again(base: Path) -> None:
    made = old(base, 0)
    held = open(made / "lock", "w")  # noqa: SIM115 - closed below, in the middle of the other's wait
    fcntl.flock(held, fcntl.LOCK_EX)
    code = "import sys; from pathlib import Path; from twinlock_endpoint.home import lock"
    hold = "lock._REMOVAL_S = 600; lock.hold(Path(sys.argv[1]))"  # as patient as a busy host needs
    other = subprocess.Popen(
        [sys.executable, "-c", f"{code}; {hold}; print('held', flush=True); input()", made], stdin=-1, stdout=-1
    )
    with contextlib.suppress(OSError):  # the other one has put its lock there before the folder was gone
        shutil.rmtree(made)
    held.close()
    assert other.stdout is not None
    assert other.stdout.readline() == b"held\n"
    assert (made / "lock").exists()
    other.communicate(b"\n", 60)


def test_a_log_that_got_long_is_moved_aside_and_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "MAX_LOG", 100)
    path, descriptor = tmp_path / "endpoint.log", os.open(os.devnull, os.O_WRONLY)
    written = output.Output({descriptor: path})
    for number in range(3):
        os.write(descriptor, f"{number}".encode() * 101)
        written.rotate()
    os.write(descriptor, b"new")
    written.rotate()
    assert path.read_text() == "new"
    assert (tmp_path / "endpoint.log.1").read_text() == "2" * 101
    assert sorted(one.name for one in tmp_path.iterdir()) == ["endpoint.log", "endpoint.log.1"]
    os.close(descriptor)
