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


def replace_often(path: Path, done: Event, visited: Event) -> None:
    """Put another socket in the place of the one at the path, many times; all listen until the visitors have gone."""
    kept = [listening_socket(path, 0o600, 8) for _ in range(300)]
    done.set()
    visited.wait(60)
    kept.clear()


def test_nobody_who_sees_a_socket_is_refused(tmp_path: Path) -> None:
    path, fork = tmp_path / "a.sock", multiprocessing.get_context("fork")
    done, visited = fork.Event(), fork.Event()
    with listening_socket(path, 0o600, 8):
        listener = fork.Process(target=replace_often, args=(path, done, visited))
        listener.start()
        while not done.is_set():
            with socket(AF_UNIX) as visitor, contextlib.suppress(BlockingIOError):  # others wait already
                visitor.setblocking(False)
                visitor.connect(os.fspath(path))
        visited.set()
        listener.join()
    assert listener.exitcode == 0


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
