"""What the Debian packages say about what is in them."""

import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

pytestmark = [pytest.mark.system, pytest.mark.thorough]

DEBS = Path(__file__).parents[2] / "build/deb"


def names(project: str) -> str:
    """A project's name as package addresses have it (the packaging specifications, "Names and normalization")."""
    return re.sub(r"[-_.]+", "-", project).lower()


def files_of(part: str) -> tarfile.TarFile:
    """The files of a package."""
    found = list(DEBS.glob(f"twinlock-{part}_*.deb"))
    if not found:
        pytest.skip(f"needs packages in {DEBS}; `make deb` makes them")
    content = subprocess.run(["dpkg-deb", "--fsys-tarfile", found[0]], capture_output=True, timeout=120, check=True)
    return tarfile.open(fileobj=io.BytesIO(content.stdout))


@pytest.fixture(scope="module", params=["broker", "endpoint", "service", "spawner"])
def package(request: pytest.FixtureRequest) -> Iterator[tarfile.TarFile]:
    """The files of each package in turn."""
    with files_of(request.param) as files:
        yield files


def bill(package: tarfile.TarFile) -> tuple[str, dict[str, Any]]:
    """The bill of materials, as text and as what it says."""
    [path] = [name for name in package.getnames() if "/usr/share/twinlock/sbom/" in name]
    file = package.extractfile(path)
    assert file is not None
    text = file.read().decode()
    return text, json.loads(text)


def test_it_is_valid(package: tarfile.TarFile) -> None:
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill(package)[0]) is None


def test_it_names_all_that_comes_from_elsewhere_and_nothing_else(package: tarfile.TarFile) -> None:
    inside = (re.search(r"site-packages/([^/]+)-([^/-]+)\.dist-info$", name) for name in package.getnames())
    found = {f"pkg:pypi/{names(one[1])}@{one[2]}" for one in inside if one and names(one[1]) != "twinlock"}
    said = {component["purl"] for component in bill(package)[1]["components"]}
    plots = any(name.endswith("uPlot.esm.js") for name in package.getnames())
    assert {purl for purl in said if purl.startswith("pkg:pypi/")} == found
    assert any(purl.startswith("pkg:npm/uplot@") for purl in said) == plots


def test_the_spawner_uses_what_debian_has() -> None:
    control = (Path(__file__).parents[2] / "packaging/debian/control").read_text()
    needed = re.findall(r"^Package: twinlock-spawner\n(?:.+\n)*?Depends: (.*)", control, re.MULTILINE)[0]
    with files_of("spawner") as files:
        said = {component["name"] for component in bill(files)[1]["components"]}
    assert said == {name for name in re.findall(r"[\w-]+", needed) if name.startswith("python3-")}
