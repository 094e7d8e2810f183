"""bill_of_materials.py PACKAGE ENVIRONMENT OUTPUT: what is in a package, in the form of CycloneDX 1.6 (JSON).

Components are the Python packages in its virtual environment, with their releases and licences, and the page's plotting
library. A package without an environment has nothing of others in it; it names what it uses of Debian.
The same content makes the same bytes: the time is SOURCE_DATE_EPOCH's, and the serial number follows from the rest.
"""

import datetime
import importlib.metadata
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import License
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

PLOTS = "share/twinlock-console"
DEBIANS = ("python3-msgpack", "python3-prctl")
"""What the spawner uses of Debian, see packaging/debian/control."""

LICENCES = LicenseFactory()


def main(package: str, environment: str, output: Path) -> None:
    """Write the bill. Exit with a message if it isn't valid."""
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    bom = Bom()
    bom.metadata.timestamp = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
    bom.metadata.component = Component(
        name=package,
        bom_ref=package,
        version=project["version"],
        type=ComponentType.APPLICATION,
        licenses=[LICENCES.make_from_string(project["license"]["text"])],
    )
    components = list(of_debian() if environment == "none" else of_environment(Path(environment), project["name"]))
    bom.components.update(components)
    bom.register_dependency(bom.metadata.component, components)
    bom.serial_number = uuid.UUID(int=0)
    bom.serial_number = uuid.uuid5(uuid.NAMESPACE_URL, JsonV1Dot6(bom).output_as_string())
    text = JsonV1Dot6(bom).output_as_string(indent=1)
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if wrong is not None:
        sys.exit(f"the bill of materials of {package} is not valid: {wrong}")
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(f"{text}\n")


def of_debian() -> Iterator[Component]:
    """Yield what a package without an environment needs of Debian, whose release is the host's choice."""
    for name in DEBIANS:
        yield component(PackageURL("deb", "debian", name))


def of_environment(environment: Path, own: str) -> Iterator[Component]:
    """Yield what an environment has that isn't our own."""
    [site] = environment.glob("lib/python3*/site-packages")
    for found in importlib.metadata.distributions(path=[str(site)]):
        if found.metadata["Name"] != own:
            yield of_distribution(found)
    if (environment / PLOTS).exists():
        yield plots()


def of_distribution(found: importlib.metadata.Distribution) -> Component:
    """Return the component that a Python package is, by its metadata."""
    name = re.sub(r"[-_.]+", "-", found.metadata["Name"]).lower()
    return component(PackageURL("pypi", None, name, found.version), licenses=licences(found))


def licences(found: importlib.metadata.Distribution) -> Iterator[License]:
    """Yield the licence: an expression of SPDX where there is one, else what the package's author has put."""
    if "License-Expression" in found.metadata:
        yield LICENCES.make_from_string(found.metadata["License-Expression"])
        return
    for classifier in found.metadata.get_all("Classifier", ()):
        if classifier.startswith("License :: "):
            yield LICENCES.make_with_name(classifier.rpartition(" :: ")[2])


def plots() -> Component:
    """Return the plotting library, by what packaging/console-assets fetches."""
    script = Path("packaging/console-assets").read_text()
    release, checksum = (re.findall(rf"^{name}=(\S+)$", script, re.MULTILINE)[0] for name in ("release", "sha512"))
    hashes = [HashType(alg=HashAlgorithm.SHA_512, content=checksum)]
    licenses = [LICENCES.make_from_string("MIT")]
    return component(PackageURL("npm", None, "uplot", release), hashes=hashes, licenses=licenses)


def component(purl: PackageURL, **about: Any) -> Component:
    """Return a component, which the bill names by its address."""
    return Component(name=purl.name, version=purl.version, purl=purl, bom_ref=str(purl), **about)


main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
