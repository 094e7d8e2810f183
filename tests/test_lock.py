"""packaging/requirements.lock: what environments are made of fits pyproject.toml, and all of it is hashed."""

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "packaging/requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS = PROJECT["project"]["optional-dependencies"]


def locked(extras: str) -> dict[str, str]:
    """The packages for these extras, each with its release."""
    printed = subprocess.run([ROOT / "packaging/locked", extras], capture_output=True, text=True, check=True).stdout
    return dict(re.findall(r"^([\w.-]+)==([^ ;]+)", printed, re.MULTILINE))


@pytest.mark.parametrize("extra", EXTRAS)
def test_each_dependency_is_locked_to_a_release_that_it_may_have(extra: str) -> None:
    found = locked(extra)
    for requirement in map(Requirement, EXTRAS[extra]):
        if requirement.name != "twinlock":
            assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement


def test_what_builds_is_locked_as_well() -> None:
    found = locked("build")
    for requirement in map(Requirement, PROJECT["build-system"]["requires"]):
        assert requirement.specifier.contains(found[canonicalize_name(requirement.name)]), requirement


def test_each_release_has_hashes_and_no_place_that_it_comes_from() -> None:
    blocks = re.findall(r"^[\w.-]+==.*(?:\n    --hash=sha256:[0-9a-f]{64}.*)*", LOCK, re.MULTILINE)
    assert len(blocks) == len(re.findall("^[a-z]", LOCK, re.MULTILINE))
    assert all("--hash" in block for block in blocks)
    assert "://" not in LOCK


def test_a_part_gets_what_it_needs_and_what_that_needs() -> None:
    service, everything = locked("service"), locked("all,testbed,dev")
    assert {"aiohttp", "pydantic-core"} <= service.keys(), "the second because of pydantic alone"
    assert not {"parsl", "pytest", "jinja2"} & service.keys()
    assert locked("broker").items() <= everything.items()
