"""Folders for temporary files whose paths leave no room for the name of a socket."""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from endpoint_rig import Queues, Running, value
from twinlock_endpoint.engines import sockets_folder
from twinlock_endpoint.errors import EngineError

FORKED = "engine: {type: GlobusComputeEngine, max_workers_per_node: 1}\n"
PROCESSES = "engine: {type: ProcessPoolEngine, max_workers: 1}\n"
SHELL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  provider: {type: LocalProvider, max_blocks: 1, worker_init: "export MINE=set"}
"""


@pytest.fixture
def temporary(home: Path) -> Path:
    """A folder for temporary files whose path has 99 characters."""
    folder = home / ("t" * (98 - len(str(home))))
    folder.mkdir(0o777)
    folder.chmod(0o777)
    assert len(str(folder)) == 99
    return folder


def folder_of_temporary_files() -> str:
    import tempfile

    return tempfile.gettempdir()


def sockets(running: Running) -> set[Path]:
    """The folders elsewhere in which the endpoint and its descendants have sockets."""
    found = set()
    for process in (psutil.Process(running.pid), *running.parts("")):
        with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
            found |= {Path(str(each.laddr)).parent for each in process.net_connections("unix") if each.laddr}
    return {folder for folder in found if folder.name.startswith("pymp-")}


@pytest.mark.system
@pytest.mark.parametrize("engine", [FORKED, PROCESSES])
def test_tasks_run_and_have_that_folder(
    endpoint: Callable[..., Running], queues: Queues, temporary: Path, engine: str
) -> None:
    running = endpoint(engine, environment={"TMPDIR": str(temporary)})
    assert value(queues.result(queues.submit(folder_of_temporary_files))) == str(temporary)
    made = sockets(running)
    assert bool(made) == (engine == PROCESSES), "the other one needs none"
    running.signal()
    end = running.end()
    assert (end.code, end.left) == (0, [])
    assert [path for path in made if path.exists()] == []


@pytest.mark.system
def test_parsls_own_pool_cannot_and_its_user_is_told_what_to_do(
    endpoint: Callable[..., Running], queues: Queues, temporary: Path
) -> None:
    task = queues.submit(folder_of_temporary_files)  # at once: the endpoint doesn't stay for long
    endpoint(SHELL, environment={"TMPDIR": str(temporary)})
    told = queues.result(task).data
    assert "AF_UNIX path too long" in told
    assert "set a shorter one, for example with 'export TMPDIR=/tmp' in the provider's worker_init" in told


def test_without_any_other_folder_the_text_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ("t" * 99)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("t" * 99)))
    monkeypatch.setattr(sockets_folder, "_OTHERS", (str(tmp_path / "missing"),))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    with pytest.raises(EngineError, match=r"too long a path for a socket.*Set TMPDIR"):
        sockets_folder.choose()
