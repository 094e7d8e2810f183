"""The wheel: what a user installs, with each Python that it is for."""

import os
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from signed_rig import MANAGER, make_key

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

SCRIPT = """
import importlib, sys
from globus_compute_sdk import Client
from globus_sdk import AccessTokenAuthorizer
for name in sys.argv[1].split(","):
    importlib.import_module(name)
from twinlock_client import SignedExecutor
from twinlock_client.results import ResultRefused
client = Client(do_version_check=False, authorizer=AccessTokenAuthorizer("a token"))
with SignedExecutor(sys.argv[2], client, user="ada@cluster.example.org", key=sys.argv[3]) as executor:
    executor.register_function(len)
    try:
        executor.client.fx_serializer.deserialize(client.fx_serializer.serialize([1]))
    except ResultRefused:
        print("good")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `make wheel` makes it."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([ROOT / "packaging/client-wheel", folder], check=True, capture_output=True, timeout=300)
    [made] = folder.glob("*.whl")
    return made


def modules(wheel: Path) -> Iterator[str]:
    """The modules in it."""
    for name in zipfile.ZipFile(wheel).namelist():
        if name.endswith(".py"):
            yield name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


@pytest.mark.thorough
def test_it_has_what_users_need_and_nothing_of_hosts(wheel: Path) -> None:
    found = set(modules(wheel))
    sources = {
        ".".join(part for part in path.relative_to(folder).with_suffix("").parts if part != "__init__")
        for folder, package in ((ROOT / "client", "twinlock_client"), (ROOT / "shared", "twinlock_signed"))
        for path in (folder / package).rglob("*.py")
    }
    assert sources - found == {f"twinlock_signed.{name}" for name in ("keys", "settings", "trusted", "verifier")}
    assert found <= sources


@pytest.mark.thorough
@pytest.mark.parametrize("version", PYTHONS)
def test_it_installs_and_works(tmp_path: Path, wheel: Path, version: str) -> None:
    find: list[str | Path] = [ROOT / "packaging/find-python", version, tmp_path / "pythons"]
    python = subprocess.run(find, capture_output=True, text=True, timeout=300, check=False)
    if python.returncode != 0:
        pytest.skip(f"this machine has no Python {version}")
    environment = tmp_path / "environment"
    subprocess.run([python.stdout.strip(), "-m", "venv", environment], check=True, timeout=300)
    pip: list[str | Path] = [environment / "bin/pip", "install", "--quiet", "--disable-pip-version-check", wheel]
    subprocess.run(pip, check=True, timeout=600)
    key = make_key(tmp_path / "key")
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def ran(*argv: str | Path) -> str:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd=tmp_path, env=outside, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    names = ",".join(name for name in modules(wheel) if not name.endswith("__main__"))
    assert ran(environment / "bin/python", "-c", SCRIPT, names, MANAGER, key) == "good\n"
    command = environment / "bin/twinlock-client"
    assert ran(command, "--version").startswith("twinlock-client 0.")
    assert "signs delegations" in ran(command, "check", "ada@cluster.example.org", MANAGER, "--key", key)
    ran(command, "delegate", "ada@cluster.example.org", MANAGER, tmp_path / "delegation", "--key", key)
