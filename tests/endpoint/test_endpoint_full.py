"""A user's home in which nothing more can be written: an error for whom it concerns, and the endpoint goes on."""

import errno
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from endpoint_rig import NOBODY, Queues, Running, journalled, until, value

pytestmark = pytest.mark.system

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1, run_in_sandbox: true}\n"


@pytest.fixture
def home() -> Iterator[Path]:
    """A home with a small file system of its own, as a quota would make it."""
    folder = Path(f"/tmp/endpoint-full-{uuid.uuid4()}")
    folder.mkdir()
    options = f"size=4m,nr_inodes=200,mode=700,uid={NOBODY},gid={NOBODY}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)
    shutil.rmtree(folder)


def fill(home: Path) -> list[Path]:
    """Use up every byte and every file."""
    made = [home / "rest"]
    with suppress(OSError), made[0].open("wb") as rest:
        while True:
            rest.write(bytes(4096))
            rest.flush()
    with suppress(OSError):
        while True:
            made.append(home / str(len(made)))
            made[-1].touch()
    return made


def double(number: int) -> int:
    return number * 2


def test_a_full_home(endpoint: Callable[..., Running], queues: Queues, home: Path) -> None:
    running = endpoint(THREADS + "heartbeat_period: 5\ndebug: true\n")
    assert value(queues.result(queues.submit(double, 1))) == 2
    until(lambda: not journalled(running))  # or what it takes out of its journal makes room again
    made = fill(home)
    refused = queues.result(queues.submit(double, 2))
    assert refused.error_details.code == "RemoteExecutionError"
    assert os.strerror(errno.ENOSPC) in refused.data
    assert queues.heartbeat()["active"]
    for path in made:
        path.unlink(missing_ok=True)
    assert value(queues.result(queues.submit(double, 3))) == 6
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
