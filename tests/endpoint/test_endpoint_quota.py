"""A disk that is full: what isn't safe isn't acknowledged, its user is told, and the endpoint goes on."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from endpoint_rig import NOBODY, Queues, Running, until, value

pytestmark = pytest.mark.system


@pytest.fixture
def small() -> Iterator[Path]:
    """A disk of 400 kB."""
    with tempfile.TemporaryDirectory(prefix="endpoint-quota-", dir="/tmp") as name:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=400k,uid={NOBODY}", "tmpfs", name], check=False)
        if mounted.returncode:
            pytest.skip("needs to mount a file system")
        yield Path(name)
        subprocess.run(["umount", "-l", name], check=True)


def length(text: str) -> int:
    return len(text)


def test_a_full_disk_is_told_and_the_endpoint_goes_on(
    endpoint: Callable[..., Running], queues: Queues, small: Path
) -> None:
    config = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"
    endpoint(f"{config}paths: {{endpoint_dir: {small / 'folder'}, endpoint_log: /dev/null}}\n")
    assert value(queues.result(queues.submit(length, "small"))) == 5
    failed = queues.result(queues.submit(length, "x" * 500_000))
    assert "can't note the task on disk (No space left on device)" in failed.data
    assert "Free some space" in failed.data
    assert value(queues.result(queues.submit(length, "small"))) == 5
    until(lambda: not queues.waiting_tasks())
