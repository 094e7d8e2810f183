"""A real spawner, and a broker's end of its socket."""

import os
import pwd
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from nss_rig import NameService
from spawner_rig import Spawner, Start, launch, stop
from spawner_versions import Version
from twinlock_testbed.cgroup import cgroup_folder
from twinlock_testbed.users import throw_away


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a spawner with ``policy`` entries of the test's own, by default with the test itself as the broker."""
    with ExitStack() as stack:

        def start(policy: Mapping[str, Any] | None = None, prefix: tuple[str, ...] = ()) -> Spawner:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp")))
            folder.chmod(0o755)
            spawner = launch(folder, policy or {}, prefix)
            stack.callback(stop, spawner)
            return spawner

        yield start


@pytest.fixture
def cgroup() -> str:
    """A cgroup v2 folder for a spawner."""
    folder = cgroup_folder(Path(f"/tests/spawner{os.getpid()}"))
    if not folder:
        pytest.skip("needs a cgroup v2 hierarchy that can be written to")
    return folder


@pytest.fixture
def delegated(cgroup: str, alice: pwd.struct_passwd) -> tuple[str, ...]:
    """Words before the command of a spawner that runs as Alice in `cgroup`, which is hers as systemd delegates it."""
    own = Path(cgroup)
    for folder in (own, own / "spawner"):
        folder.mkdir()
        for path in (folder, folder / "cgroup.procs", folder / "cgroup.subtree_control"):
            os.chown(path, alice.pw_uid, alice.pw_gid)
    enter = ("sh", "-c", f'echo $$ > {own}/spawner/cgroup.procs && exec "$@"', "sh")
    return (*enter, "setpriv", f"--reuid={alice.pw_name}", f"--regid={alice.pw_name}", "--clear-groups")


@pytest.fixture(params=["cgroup", "guard"])
def mode(request: pytest.FixtureRequest) -> dict[str, str]:
    """Policy entries for each of the two ways in which an endpoint's processes are kept together."""
    return {"cgroup": request.getfixturevalue("cgroup")} if request.param == "cgroup" else {}


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[str]:
    """A PAM service that allows everything."""
    path = Path(f"/etc/pam.d/twl-{os.getpid()}-{tmp_path.name}-plain")
    path.write_text("".join(f"{kind} required pam_permit.so\n" for kind in ("auth", "account", "session")))
    yield path.name
    path.unlink()


@pytest.fixture
def names() -> Iterator[NameService]:
    """A name service that a spawner may be started with."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield NameService(Path(folder))


@pytest.fixture
def version(tmp_path: Path) -> Iterator[Version]:
    """An installation of this test's own."""
    with ExitStack() as stack:
        yield Version(tmp_path, stack)


@pytest.fixture(scope="session")
def alice() -> Iterator[pwd.struct_passwd]:
    """A throw-away user."""
    with throw_away(f"twl-alice{os.getpid()}") as account:
        yield account


@pytest.fixture(scope="session")
def bob() -> Iterator[pwd.struct_passwd]:
    """Another one."""
    with throw_away(f"twl-bob{os.getpid()}") as account:
        yield account
