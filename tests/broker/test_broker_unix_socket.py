"""Sockets appear when somebody listens, and take nobody's file."""

import contextlib
import multiprocessing
import os
import stat
from multiprocessing.synchronize import Event
from pathlib import Path
from socket import AF_UNIX, socket

import pytest
from twinlock_broker.unix_socket import listening_socket


def appear_often(path: Path, done: Event) -> None:
    """Listen at the path, which nothing is at before, many times; nobody stops listening while others may come."""
    kept = []
    for _ in range(300):
        kept.append(listening_socket(path, 0o600, 8))
        path.unlink()
    done.set()


def test_nobody_who_sees_a_socket_is_refused(tmp_path: Path) -> None:
    path, fork = tmp_path / "a.sock", multiprocessing.get_context("fork")
    done = fork.Event()
    listener = fork.Process(target=appear_often, args=(path, done))
    listener.start()
    seen = 0
    while not done.is_set():
        with socket(AF_UNIX) as visitor, contextlib.suppress(FileNotFoundError):
            visitor.setblocking(False)
            with contextlib.suppress(BlockingIOError):  # others wait already
                visitor.connect(os.fspath(path))
            seen += 1
    listener.join()
    assert listener.exitcode == 0
    assert seen


def test_it_takes_the_place_of_one_that_a_killed_process_left(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"
    listening_socket(path, 0o600, 8).close()
    with listening_socket(path, 0o640, 8, os.getgid()), socket(AF_UNIX) as visitor:
        visitor.connect(os.fspath(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert os.listdir(tmp_path) == ["a.sock"]


@pytest.mark.parametrize("name", ["a.sock", "a.new"])
def test_it_takes_the_place_of_nothing_else(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("somebody's")
    with pytest.raises(OSError, match=r"no socket|already in use"):
        listening_socket(tmp_path / "a.sock", 0o600, 8)
    assert (tmp_path / name).read_text() == "somebody's"
