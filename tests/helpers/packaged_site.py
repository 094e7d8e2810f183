"""A site in a container, installed with apt from our own packages and set up as an administrator would."""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import yaml
from container import Container, ContainerError, container
from site_rig import RESULT_TIMEOUT
from twinlock_testbed.scripts import Outcome, Script
from twinlock_testbed.service import DOMAIN, URL, Login, Person
from twinlock_testbed.templates import LOCAL

USERS = ("twl-ada", "twl-bob")
SPAWNER = "twinlock.slice/twinlock-spawner.service"
"""The cgroup of the spawner's unit; the endpoints' are below it."""

_REPOSITORY = "srv/twinlock"
_FIRST_UID = 1000


@dataclass(frozen=True)
class Site:
    """The site while it runs."""

    prefix: Path
    """Where the programs for the scripts are, outside of the container."""
    debs: Path
    """The folder of the packages as they were built."""
    folder: Path
    """A folder that every user may enter."""
    box: Container
    """The host that the packages are installed on."""
    people: Mapping[str, Person]
    """The users, by their accounts."""

    def show(self, unit: str, name: str) -> str:
        """A property of a unit, see systemctl(1)."""
        return self.box.run("systemctl", "show", "--value", f"--property={name}", unit).strip()

    def main_pid(self, unit: str) -> int:
        """The pid in the container of a unit's main process; 0 where there is none."""
        return int(self.show(unit, "MainPID"))

    def active(self, unit: str) -> bool:
        """Whether it runs, and has said that it is ready."""
        return self.box.attempt("systemctl", "is-active", "--quiet", unit).returncode == 0

    def endpoints(self, cgroup: str = SPAWNER) -> list[int]:
        """The host's pids of the users' processes that a spawner has started; not what those have started."""
        users: dict[int, int] = {}
        for pid in self.box.processes(cgroup):
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.uids().real >= _FIRST_UID:
                    users[pid] = process.ppid()
        return sorted(pid for pid, parent in users.items() if parent not in users)

    def uids(self) -> set[int]:
        """Those that processes in the container run under."""
        found = set()
        for pid in self.box.processes(""):
            with suppress(psutil.NoSuchProcess):
                found.add(psutil.Process(pid).uids().real)
        return found

    def script(self, user: str, *configs: str, tasks: int = 1, seconds: float = 0.0, instance: str = "") -> Script:
        """A script of a user that has just submitted, with an account_id for each configuration."""
        state = f"twinlock-instances/{instance}" if instance else "twinlock"
        manager = json.loads((self.box.root / "var/lib" / state / "endpoint.json").read_text())["endpoint_id"]
        options = [{"account_id": name} for name in configs]
        more: dict[str, Any] = {"folder": self.folder, "tasks": tasks, "seconds": seconds, "user": "nobody"}
        more["as_source"] = True  # since the workers have the Python of the container's Debian
        return Script(self.prefix, self.people[user], manager, options, within=self.box.joined(), **more)

    def run(self, user: str, *configs: str, tasks: int = 1, instance: str = "") -> list[Outcome]:
        """Every outcome of such a script."""
        return self.script(user, *configs, tasks=tasks, instance=instance).outcomes(RESULT_TIMEOUT)

    def uid(self, user: str) -> int:
        """The uid of an account in the container."""
        lines = (self.box.root / "etc/passwd").read_text().splitlines()
        return next(int(line.split(":")[2]) for line in lines if line.startswith(f"{user}:"))

    def offer(self, version: str) -> None:
        """Have the repository offer the same packages as another version."""
        made = self.folder / "repository"
        _publish(self.debs, made, version)
        shutil.rmtree(self.box.root / _REPOSITORY)
        shutil.copytree(made, self.box.root / _REPOSITORY)
        self.box.run("apt-get", "update")

    def journal(self) -> str:
        """The last words of all services."""
        return self.box.run("journalctl", "--no-pager", "--lines=200", "--unit=twinlock*")


@contextmanager
def packaged_site(prefix: Path, debs: Path, tree: Path, folder: Path) -> Iterator[Site]:
    """A site with two users, one manager endpoint and a local Compute service; its end leaves nothing."""
    with container(tree, lambda files: _offer_packages(files, debs)) as box:
        site = Site(prefix, debs, folder, box, {user: Person(f"{user}@{DOMAIN}") for user in USERS})
        box.run("apt-get", "update")
        box.run("apt-get", "install", "--yes", "twinlock", "twinlock-service", timeout=300)
        for user in USERS:
            box.run("useradd", "--create-home", "--user-group", "--shell=/usr/sbin/nologin", user)
        login = Login()
        try:
            _start_service(site, login)
            make_endpoint(site, "/etc/twinlock", login)
            box.run("systemctl", "start", "twinlock-broker", timeout=150)
        except ContainerError as error:
            error.add_note(site.journal())
            raise
        yield site


def _offer_packages(files: Path, debs: Path) -> None:
    for name, text in (
        ("etc/apt/sources.list.d/twinlock.list", f"deb [trusted=yes] file:/{_REPOSITORY} ./\n"),
        ("etc/hosts", "127.0.0.1 localhost\n"),
        ("etc/dpkg/dpkg.cfg.d/unsafe-io", "force-unsafe-io\n"),  # the disk is thrown away
    ):
        (files / name).parent.mkdir(parents=True, exist_ok=True)
        (files / name).write_text(text)
    _publish(debs, files / _REPOSITORY)


def _publish(debs: Path, repository: Path, version: str = "") -> None:
    """Make a repository for apt of packages, as they are or as another version."""
    repository.mkdir(parents=True)
    for deb in sorted(debs.glob("*.deb")):
        if version:
            _renew(deb, repository, version)
        else:
            shutil.copyfile(deb, repository / deb.name)
    index = subprocess.run(["dpkg-scanpackages", "."], cwd=repository, capture_output=True, check=True, timeout=300)
    (repository / "Packages").write_bytes(index.stdout)


def _renew(deb: Path, repository: Path, version: str) -> None:
    content = repository / "content"
    subprocess.run(["dpkg-deb", "--raw-extract", deb, content], check=True, timeout=300)
    control = content / "DEBIAN/control"
    former = next(line.split()[1] for line in control.read_text().splitlines() if line.startswith("Version: "))
    control.write_text(
        control.read_text()
        .replace(f"Version: {former}", f"Version: {version}")
        .replace(f"= {former})", f"= {version})")
    )
    name = deb.name.replace(f"_{former}_", f"_{version}_")
    subprocess.run(
        ["dpkg-deb", "--build", "-Znone", content, repository / name],
        check=True,
        timeout=300,
        stdout=subprocess.DEVNULL,
    )
    shutil.rmtree(content)


def _start_service(site: Site, login: Login) -> None:
    users = {person.username: person.entry() for person in site.people.values()}
    path = site.box.root / "etc/twinlock-service/users.yaml"
    path.parent.mkdir()
    path.touch(mode=0o640)
    path.write_text(yaml.safe_dump({"users": users, "clients": {login.client_id: {"secret": login.secret}}}))
    site.box.run("chgrp", "twinlock-service", "/etc/twinlock-service/users.yaml")
    site.box.run("systemctl", "start", "twinlock-service", timeout=180)


def make_endpoint(site: Site, folder: str, login: Login) -> None:
    """Make and edit the files of a manager endpoint in `folder`, and give its broker a login and the local service."""
    site.box.run("twinlock", "configure", f"{folder}/endpoint", "--display-name", "Container")
    path = site.box.root / folder[1:]
    config = (path / "endpoint/config.yaml").read_text()
    (path / "endpoint/config.yaml").write_text(config + "\nlocal_compute_services: true\nheartbeat_period: 5\n")
    mapping = path / "endpoint/identity_mapping_config.json"
    mapping.write_text(mapping.read_text().replace("example\\\\.org", "site\\\\.example"))
    (path / "endpoint/user_config_template.yaml.j2").write_text(LOCAL)
    (path / "endpoint/user_config_schema.json").unlink()
    (path / "client").mkdir(exist_ok=True)
    (path / "client/id").write_text(login.client_id)
    (path / "client/secret").write_text(login.secret)
    for unit in ("twinlock-broker.service", "twinlock-broker@.service"):
        override = site.box.root / f"etc/systemd/system/{unit}.d/local.conf"
        override.parent.mkdir(parents=True, exist_ok=True)
        override.write_text(f"[Service]\nEnvironment=GLOBUS_SDK_SERVICE_URL_AUTH={URL}\nWatchdogSec=60\n")
    site.box.run("systemctl", "daemon-reload")
