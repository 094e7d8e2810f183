"""The wheel: what a user installs, with each Python that it is for."""

import os
import re
import subprocess
import sys
import zipfile
from itertools import permutations
from pathlib import Path

import pytest
from signed_rig import MANAGER, make_key

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
PACKAGES = ("twinlock-client", "twinlock")

SCRIPT = """
import importlib, sys
from globus_compute_sdk import Client
from globus_sdk import AccessTokenAuthorizer
for name in sys.argv[1].split(","):
    importlib.import_module(name)
from twinlock_client import Refused, ResultRefused, SignedExecutor
client = Client(do_version_check=False, authorizer=AccessTokenAuthorizer("a token"))
with SignedExecutor(sys.argv[2], client, user="ada@cluster.example.org", key=sys.argv[3]) as executor:
    executor.register_function(len)
    try:
        executor.client.fx_serializer.deserialize(client.fx_serializer.serialize([1]))
    except ResultRefused:
        print("good")
try:
    SignedExecutor(sys.argv[2], client, user="no account at a site")
except Refused:
    print("refused")
"""


SITES_SCRIPT = """
import importlib, sys
for name in sys.argv[1].split(","):
    importlib.import_module(name)
from twinlock_signed.verifier import envelope
print(envelope(list("abcd")).task)
"""

CLIENT = ROOT / "client"
SIGNED = ROOT / "shared/twinlock_signed"
FOR_HOSTS = {f"twinlock_client/signed/{name}.py" for name in ("keys", "settings", "trusted", "verifier")}
"""What reads an administrator's file."""


def make(folder: Path, program: str, *arguments: Path) -> Path:
    """The wheel that a program of `packaging` makes."""
    argv = [ROOT / "packaging" / program, *arguments, folder]
    subprocess.run(argv, check=True, capture_output=True, timeout=300)
    [made] = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, as `make wheel` makes it."""
    manuals = tmp_path_factory.mktemp("man")
    page: list[str | Path] = [sys.executable, ROOT / "docs/tools/client_man.py", manuals]
    subprocess.run(page, env=os.environ | {"PYTHONPATH": str(CLIENT)}, check=True, timeout=180)
    return make(tmp_path_factory.mktemp("wheel"), "client-wheel", manuals)


def code(wheel: Path) -> dict[str, str]:
    """The text of each module in it, and of each stub, by its path there."""
    with zipfile.ZipFile(wheel) as file:
        return {name: file.read(name).decode() for name in file.namelist() if name.endswith((".py", ".pyi"))}


def texts(folder: Path) -> list[Path]:
    """The same among the sources."""
    return [path for path in folder.rglob("*") if path.suffix in (".py", ".pyi")]


def modules(wheel: Path) -> list[str]:
    """The modules in it, without programs."""
    paths = [path for path in code(wheel) if path.endswith(".py")]
    names = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in paths]
    return [name for name in names if not name.endswith("__main__")]


def ran(folder: Path, *argv: str | Path) -> str:
    """What a command prints that runs in a folder, without the sources."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=600, cwd=folder, env=outside, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(environment: Path, *words: str | Path) -> None:
    """Run pip."""
    ran(environment, environment / "bin/pip", words[0], "--quiet", "--disable-pip-version-check", *words[1:])


def use(environment: Path, wheel: Path, folder: Path) -> str:
    """What a program prints that uses what users install."""
    key = make_key(folder / "key")
    return ran(folder, environment / "bin/python", "-c", SCRIPT, ",".join(modules(wheel)), MANAGER, key)


@pytest.mark.thorough
def test_it_has_what_users_need_and_nothing_of_hosts(wheel: Path) -> None:
    """The same code as hosts have, but for the name of the package."""
    sources = {str(path.relative_to(CLIENT)): path.read_text() for path in texts(CLIENT / "twinlock_client")}
    sources |= {f"twinlock_client/signed/{path.relative_to(SIGNED)}": path.read_text() for path in texts(SIGNED)}
    found = code(wheel)
    assert sources.keys() - found.keys() == FOR_HOSTS
    for path, text in found.items():
        assert re.sub(r"(?m)^( *from )twinlock_client\.signed\b", r"\1twinlock_signed", text) == sources[path]


@pytest.mark.thorough
@pytest.mark.parametrize("version", PYTHONS)
def test_it_installs_and_works(tmp_path: Path, wheel: Path, version: str) -> None:
    find: list[str | Path] = [ROOT / "packaging/find-python", version, tmp_path / "pythons"]
    python = subprocess.run(find, capture_output=True, text=True, timeout=300, check=False)
    if python.returncode != 0:
        pytest.skip(f"this machine has no Python {version}")
    environment = tmp_path / "environment"
    subprocess.run([python.stdout.strip(), "-m", "venv", environment], check=True, timeout=300)
    pip(environment, "install", wheel)
    assert use(environment, wheel, tmp_path) == "good\nrefused\n"
    for place in ("share/man/man1/twinlock-client.1", "share/bash-completion/completions/twinlock-client"):
        assert "twinlock-client" in (environment / place).read_text().replace("\\-", "-")  # as man pages write it
    command = environment / "bin/twinlock-client"
    assert ran(tmp_path, command, "--version").startswith("twinlock-client 0.")
    key = tmp_path / "key"
    assert "signs delegations" in ran(tmp_path, command, "check", "ada@cluster.example.org", MANAGER, "--key", key)
    ran(tmp_path, command, "delegate", "ada@cluster.example.org", MANAGER, tmp_path / "delegation", "--key", key)


@pytest.fixture(scope="module")
def sites_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one for hosts."""
    return make(tmp_path_factory.mktemp("sites-wheel"), "wheel")


@pytest.fixture(scope="module")
def shared_environment(tmp_path_factory: pytest.TempPathFactory, wheel: Path, sites_wheel: Path) -> Path:
    """An environment with all that both wheels need, and neither of them."""
    environment = tmp_path_factory.mktemp("shared") / "environment"
    subprocess.run(["/usr/bin/python3", "-m", "venv", environment], check=True, timeout=300)
    pip(environment, "install", wheel, f"{sites_wheel}[endpoint]")
    pip(environment, "uninstall", "--yes", *PACKAGES)
    return environment


@pytest.mark.thorough
@pytest.mark.parametrize("order", [*permutations(PACKAGES)])
@pytest.mark.parametrize("kept", PACKAGES)
def test_it_may_be_beside_a_sites_packages(
    tmp_path: Path, wheel: Path, sites_wheel: Path, shared_environment: Path, order: tuple[str, str], kept: str
) -> None:
    """Whichever is there first, and whichever is removed."""
    wheels = dict(zip(PACKAGES, (wheel, sites_wheel), strict=True))
    for name in order:
        pip(shared_environment, "install", "--no-deps", wheels[name])
    pip(shared_environment, "uninstall", "--yes", *({*PACKAGES} - {kept}))
    if kept == "twinlock-client":
        assert use(shared_environment, wheel, tmp_path) == "good\nrefused\n"
    else:
        parts = ("twinlock_signed", "twinlock_endpoint.verified")
        names = ",".join(name for name in modules(sites_wheel) if name.startswith(parts))
        assert ran(tmp_path, shared_environment / "bin/python", "-c", SITES_SCRIPT, names) == "c\n"
    pip(shared_environment, "uninstall", "--yes", kept)
