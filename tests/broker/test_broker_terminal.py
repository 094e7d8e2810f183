"""The commands on odd terminals, in pipes and in scripts: a sentence and an exit code, never a traceback."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from broker_rig import NO_POLICY

TWINLOCK = Path(sys.executable).with_name("twinlock")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `configure` makes it."""
    folder = tmp_path_factory.mktemp("made") / "endpoint"
    subprocess.run([TWINLOCK, "configure", folder], check=True, capture_output=True, timeout=60)
    return folder


def run(*words: str | Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """The command's outcome without any input."""
    argv, variables = [TWINLOCK, *words], {**os.environ, **environ}
    return subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False, env=variables
    )


def arguments(words: tuple[str, ...], folder: Path) -> list[str | Path]:
    """The command line, with the folder where the command needs one."""
    places = {"list": [folder.parent], "render": [folder]}
    return [TWINLOCK, *words, *places.get(words[0], [])]


@pytest.mark.cases(1)
@pytest.mark.parametrize("words", [("list",), ("render", "-e"), ("--version",), ("check", "--help")])
def test_output_that_cannot_be_written(folder: Path, words: tuple[str, ...]) -> None:
    with Path("/dev/full").open("w") as full:
        argv = arguments(words, folder)
        done = subprocess.run(argv, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (os.EX_IOERR, "twinlock: the output: No space left on device\n")


@pytest.mark.cases(1)
@pytest.mark.parametrize("words", [("list",), ("render", "-e"), ("--help",), ("check", "--help")])
def test_who_reads_the_output_may_have_seen_enough(folder: Path, words: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    argv = arguments(words, folder)
    done = subprocess.run(argv, stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (os.EX_OK, "")


def test_names_of_any_encoding_are_printed(folder: Path) -> None:
    for name in ("ünï", os.fsdecode(b"\xff")):
        other = folder.parent / name
        other.mkdir()
        (other / "config.yaml").touch()
    done = run("list", folder.parent, LC_ALL="C", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (os.EX_OK, "")
    assert len(done.stdout.splitlines()) == 3


def test_ctrl_c_at_a_question(folder: Path) -> None:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([TWINLOCK, "delete", folder, "--force"], text=True, **pipes) as asking:  # type: ignore[call-overload]
        assert asking.stdout.read(6) == "Delete"
        asking.send_signal(signal.SIGINT)
        _, said = asking.communicate(timeout=60)
    assert (asking.returncode, said.strip()) == (130, "twinlock: interrupted")
    assert (folder / "config.yaml").exists()


@pytest.mark.cases(1)
@pytest.mark.parametrize("command", ["check", "delete", "whoami", "login"])
def test_an_empty_folder_name_is_no_folder(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    done = run(command, "")
    assert (done.returncode, done.stderr) == (
        os.EX_USAGE,
        "twinlock: which folder? The name that was given is empty\n",
    )
    assert (folder / "config.yaml").exists()


def test_list_of_what_is_no_folder(folder: Path) -> None:
    done = run("list", folder / "config.yaml")
    assert done.returncode == os.EX_NOINPUT
    assert "Not a directory; name the folder that endpoints are in" in done.stderr


def test_a_sockets_path_of_any_length() -> None:
    done = run("status", "--socket", "/" + "x" * 200)
    assert done.returncode == os.EX_UNAVAILABLE
    assert "AF_UNIX path too long" in done.stderr


def test_check_says_where_there_is_no_config(tmp_path: Path) -> None:
    assert (
        "isn't there, or is empty: all keys have their defaults"
        in run("check", *NO_POLICY, "--offline", tmp_path).stdout
    )
