"""Jobs of an endpoint that was killed: which ones the next one cancels."""

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from endpoint_rig import until
from parsl.launchers import SimpleLauncher
from parsl.providers import LocalProvider
from process_trees import lives
from twinlock_endpoint.htex.submitted import Submitted


@pytest.fixture
def block(tmp_path: Path) -> Iterator[tuple[LocalProvider, str]]:
    """A provider, and a block of it on this host."""
    provider = LocalProvider(launcher=SimpleLauncher())
    provider.script_dir = str(tmp_path)
    job = provider.submit("sleep 1000", 1)
    process = psutil.Process(int(job))
    yield provider, job
    if process.is_running():  # else its number may be another process's
        os.killpg(os.getpgid(process.pid), signal.SIGKILL)


def test_a_block_on_this_host_is_ended(block: tuple[LocalProvider, str], tmp_path: Path) -> None:
    provider, job = block
    former = Submitted(tmp_path / "blocks.json")
    former.note(provider, job, set())
    assert lives(int(job))
    Submitted(tmp_path / "blocks.json").cancel_former(LocalProvider())
    until(lambda: not lives(int(job)))


@pytest.mark.parametrize("changed", ["here", "session"])
def test_a_process_that_only_has_the_same_number_is_left_alone(
    block: tuple[LocalProvider, str], tmp_path: Path, changed: str
) -> None:
    provider, job = block
    Submitted(tmp_path / "blocks.json").note(provider, job, set())
    text = (tmp_path / "blocks.json").read_text()
    old = {"here": '"here": "', "session": '"session": '}[changed]
    (tmp_path / "blocks.json").write_text(text.replace(old, f"{old}1"))
    Submitted(tmp_path / "blocks.json").cancel_former(LocalProvider())
    assert lives(int(job))


def test_a_job_that_only_a_former_provider_can_cancel_is_told_once_and_forgotten(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "blocks.json"
    jobs = [{"provider": "SlurmProvider", "id": "17"}, {"provider": "SlurmProvider", "id": "", "name": "block-3"}]
    path.write_text(json.dumps({"here": "", "jobs": jobs}))
    submitted = Submitted(path)
    submitted.cancel_former(LocalProvider())
    submitted.end(LocalProvider())
    assert [record.getMessage() for record in caplog.records] == [
        "SlurmProvider 17 can't be cancelled by a LocalProvider; cancel it by hand",
        "SlurmProvider block-3 can't be cancelled by a LocalProvider; cancel it by hand",
    ]
    assert json.loads(path.read_text())["jobs"] == []
