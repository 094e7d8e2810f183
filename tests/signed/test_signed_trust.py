"""What only root can change, and what only root and an account can change."""

import os
from pathlib import Path

import pytest
from twinlock_signed.errors import ConfigError
from twinlock_signed.trust import check_command, check_strict_modes, check_trusted

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to own files and to give them away")

ADA = 54321


def make(path: Path, mode: int = 0o644, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


def test_what_is_roots(folder: Path) -> None:
    """Below /tmp, which is sticky; by links too, if those are root's."""
    check_trusted(str(make(folder / "in" / "file")))
    (folder / "link").symlink_to("in/../in")
    check_trusted(str(folder / "link" / "file"))
    check_trusted("/")


@pytest.mark.parametrize("place", ["in", "in/file", "link", "other", "other/file"])
def test_what_another_owns(folder: Path, place: str) -> None:
    make(folder / "other" / "file")
    make(folder / "in" / "file")
    (folder / "in" / "there").symlink_to(folder / "link")
    (folder / "link").symlink_to("other/file")
    os.chown(folder / place, ADA, 0, follow_symlinks=False)
    with pytest.raises(ConfigError, match=f"{folder / place}: its owner, uid {ADA}, can change it; use `chown`"):
        check_trusted(str(folder / "in" / ("there" if place[0] in "lo" else "file")))


@pytest.mark.parametrize("place", ["in", "in/file"])
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_what_others_can_write_to(folder: Path, place: str, mode: int) -> None:
    """A sticky folder is good on the way, since nobody else can replace what is root's in it."""
    path = make(folder / "in" / "file")
    (folder / place).chmod(mode)
    if place == "in" and mode & 0o1000:
        check_trusted(str(path))
        path = path.parent
    with pytest.raises(ConfigError, match=rf"{folder / place}: its group or others can change it \(mode {mode:o}\)"):
        check_trusted(str(path))


def test_a_relative_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(folder / "in" / "file")
    monkeypatch.chdir(folder / "in")
    check_trusted("file")
    folder.chmod(0o777)
    with pytest.raises(ConfigError, match=f"{folder}: its group or others can change it"):
        check_trusted("file")


def test_what_leads_nowhere(folder: Path) -> None:
    (folder / "circle").symlink_to("circle")
    with pytest.raises(ConfigError, match="its links lead in a circle; correct them"):
        check_trusted(str(folder / "circle"))
    with pytest.raises(ConfigError, match="No such file or directory; correct the path"):
        check_trusted(str(folder / "none"))


def test_a_command_is_all_of_its_files(folder: Path) -> None:
    script = make(folder / "script", 0o755, "#!/bin/sh\n")
    data = make(folder / "data")
    interpreted = make(folder / "interpreted", 0o755, f"#!{script} {data}\n")
    check_command([str(interpreted), "-x", "relative/word"])
    check_command([str(script), str(folder)])
    data.chmod(0o666)
    for argv in ([str(interpreted)], [str(script), str(data)]):
        with pytest.raises(ConfigError, match=f"{data}: its group or others"):
            check_command(argv)
    with pytest.raises(ConfigError, match="No such file"):
        check_command([str(script), "/nonexistent/file"])


def test_a_home_as_strict_modes_has_it(folder: Path) -> None:
    """Root and the account may own what is below the home; what is above it doesn't matter."""
    home = folder / "home"
    path = make(home / ".ssh" / "file")
    folder.chmod(0o777)
    for place in (home, path):
        os.chown(place, ADA, 0)
    check_strict_modes(path, home, ADA)
    os.chown(path, ADA + 1, 0)
    with pytest.raises(ConfigError, match=f"{path}: its owner, uid {ADA + 1}, can change it"):
        check_strict_modes(path, home, ADA)


@pytest.mark.parametrize("place", ["home", "home/.ssh", "home/.ssh/file", "elsewhere", "elsewhere/file"])
def test_a_home_that_others_can_write_to(folder: Path, place: str) -> None:
    make(folder / "elsewhere" / "file")
    path = make(folder / "home" / ".ssh" / "file")
    if place.startswith("elsewhere"):
        path.unlink()
        path.symlink_to(folder / "elsewhere" / "file")
    (folder / place).chmod(0o775)
    with pytest.raises(ConfigError, match=f"{folder / place}: its group or others can change it"):
        check_strict_modes(path, folder / "home", 0)
