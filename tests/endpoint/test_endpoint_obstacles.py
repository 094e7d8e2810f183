"""Homes in which the endpoint can't make its folder: the user is told the place, what is wrong with it, what to do."""

import errno
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint_rig import NOBODY, Queues, endpoint_name, run, start
from twinlock_endpoint.home import obstacles

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"


@pytest.fixture
def above() -> Iterator[Path]:
    """A directory of root's that homes are in."""
    folder = Path(f"/tmp/endpoint-homes-{uuid.uuid4()}")
    folder.mkdir(0o755)
    yield folder
    subprocess.run(["umount", "--lazy", "--quiet", folder / "ada"], check=False)
    shutil.rmtree(folder)


def missing(home: Path) -> tuple[Path, str]:
    return home, "doesn't exist. Ask"


def foreign(home: Path) -> tuple[Path, str]:
    home.mkdir(0o755)
    return home, "belongs to root (mode 0755), and you are nobody. Ask"


def closed(home: Path) -> tuple[Path, str]:
    home.mkdir(0o700)
    return home, "belongs to root (mode 0700), and you are nobody. Ask"


def foreign_folder(home: Path) -> tuple[Path, str]:
    (home / ".globus_compute").mkdir(parents=True)
    os.chown(home, NOBODY, NOBODY)
    return home / ".globus_compute", "belongs to root (mode 0755), and you are nobody. Ask"


def own_without_rights(home: Path) -> tuple[Path, str]:
    home.mkdir(0o500)
    os.chown(home, NOBODY, NOBODY)
    return home, "is yours, but has the mode 0500. Allow yourself to write there (chmod u+rwx)"


def a_file(home: Path) -> tuple[Path, str]:
    home.write_text("not a directory")
    return home, "is in the way: it isn't a directory. Move it away"


def a_file_in_it(home: Path) -> tuple[Path, str]:
    home.mkdir()
    (home / ".globus_compute").write_text("not a directory")
    os.chown(home, NOBODY, NOBODY)
    return home / ".globus_compute", "is in the way: it isn't a directory. Move it away"


def a_dangling_link(home: Path) -> tuple[Path, str]:
    home.symlink_to("/nonexistent/ada")
    return home, "is in the way: it isn't a directory. Move it away"


def mount(home: Path, options: str) -> None:
    home.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"uid={NOBODY},{options}", "tmpfs", home], check=True)


def read_only(home: Path) -> tuple[Path, str]:
    mount(home, "ro")
    return home, "is read-only. Ask"


def full(home: Path) -> tuple[Path, str]:
    mount(home, "nr_inodes=2")
    return home / ".globus_compute", "is full. Remove files there"


OBSTACLES = [
    missing,
    foreign,
    closed,
    foreign_folder,
    own_without_rights,
    a_file,
    a_file_in_it,
    a_dangling_link,
    read_only,
    full,
]


@pytest.mark.cases(2)
@pytest.mark.system
@pytest.mark.parametrize("prepare", OBSTACLES)
def test_the_place_and_what_is_wrong_with_it(
    above: Path, queues: Queues, prepare: Callable[[Path], tuple[Path, str]]
) -> None:
    place, words = prepare(above / "ada")
    end = start(above / "ada", queues, THREADS).end()
    assert (end.code, end.left) == (os.EX_CANTCREAT, [])
    assert f"The endpoint's folder {above}/ada/.globus_compute/{endpoint_name(queues)} can't be made" in end.said
    assert f"{place} {words}" in end.said
    assert len(end.said.strip().splitlines()) == 1


@pytest.mark.system
def test_the_official_agents_folder(above: Path, queues: Queues) -> None:
    document = json.dumps({"amqp_creds": queues.creds(), "config": THREADS, "ep_info": {}}).encode()
    end = run(above / "ada", queues, document, "--agent", "/bin/true", endpoint_name(queues)).end()
    assert end.code == os.EX_CANTCREAT
    assert f"your home directory {above}/ada doesn't exist. Ask" in end.said


@pytest.mark.system
def test_a_log_that_is_elsewhere(above: Path, queues: Queues, home: Path) -> None:
    end = start(home, queues, f"{THREADS}paths: {{endpoint_log: {above}/endpoint.log}}\n").end()
    assert end.code == os.EX_CANTCREAT
    assert f"log can't be opened: {above} belongs to root" in end.said


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EDQUOT, "your quota on the file system of {} is used up. Remove files"),
        (errno.ESTALE, "{}: Stale file handle. Ask"),
        (errno.EIO, "{}: Input/output error. Ask"),
        (errno.EACCES, "the system forbids it, though {} is yours (mode 0755). Ask"),
    ],
)
def test_what_this_host_cant_be_made_to_say(tmp_path: Path, number: int, words: str) -> None:
    tmp_path.chmod(0o755)
    error = OSError(number, os.strerror(number), str(tmp_path / "endpoint"))
    assert words.format(tmp_path) in obstacles.explain(tmp_path / "endpoint" / "journal", error)
