"""The release is the same one for Python, for Debian and for whoever reads the changelog."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_packages_and_changelog_name_the_same_release() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    debian = re.match(r"twinlock \((.+?)\)", (ROOT / "packaging/debian/changelog").read_text())
    released = re.search(r"^## ([0-9.]+) - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert debian is not None
    assert released is not None
    assert debian[1] == released[1] == project
