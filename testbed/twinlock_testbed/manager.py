"""A manager endpoint of a site: the spawner and the broker, with what an administrator decides."""

import json
import os
import pwd
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import yaml

from twinlock_testbed.cgroup import cgroup_folder, remove_cgroup
from twinlock_testbed.daemons import START_LIMIT, Daemon
from twinlock_testbed.service import DOMAIN, URL, Service, private_file

MAPPING = [
    {
        "DATA_TYPE": "expression_identity_mapping#1.0.0",
        "mappings": [{"source": "{username}", "match": r"(.*)@site\.example", "output": "{0}"}],
    }
]


@dataclass(frozen=True)
class Setup:
    """What an administrator decides: the files of an endpoint folder, and the policy beside its fixed entries."""

    template: str
    """The text of the endpoint's template."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Further files of the endpoint folder, by name."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """user_environment.yaml."""
    config: Mapping[str, object] = field(default_factory=dict)
    """Further keys of config.yaml."""
    policy: Mapping[str, object] = field(default_factory=dict)
    """Further keys of the policy."""
    program: tuple[str, ...] = ()
    """The command in place of twinlock-endpoint."""
    settings: Mapping[str, object] = field(default_factory=dict)
    """Keys of broker.yaml."""
    broker: tuple[str, ...] = ()
    """The command in place of twinlock-broker."""


def endpoint_folder(folder: Path, setup: Setup, mapping: bool = True) -> Path:
    """Make an endpoint folder as the agent has it: configuration, template, identity mapping, environment."""
    folder.mkdir(mode=0o755)
    config: dict[str, object] = {
        "display_name": "Testbed",
        "email": f"admin@{DOMAIN}",
        "local_compute_services": True,
        "heartbeat_period": 5,
    }
    if mapping:
        (folder / "identity_mapping.json").write_text(json.dumps(MAPPING))
        config["identity_mapping_config_path"] = str(folder / "identity_mapping.json")
    (folder / "config.yaml").write_text(yaml.safe_dump(config | dict(setup.config)))
    (folder / "user_config_template.yaml.j2").write_text(setup.template)
    (folder / "user_environment.yaml").write_text(yaml.safe_dump(dict(setup.environment)))
    for name, text in setup.files.items():
        (folder / name).write_text(text)
    return folder


@dataclass
class Manager:
    """A manager endpoint of ours: a spawner, which is root or the user itself, and a broker."""

    prefix: Path
    """Where the programs are installed."""
    folder: Path
    """What belongs to it; it is made."""
    service: Service
    setup: Setup
    broker_user: str | None
    """The broker's account; None for the caller's own."""
    endpoint_id: str = ""
    """Its uuid; empty before the broker was ready."""
    _started: list[Daemon] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(mode=0o755, parents=True)
        self.socket = self.folder / "run" / "spawner.sock"
        self.socket.parent.mkdir(mode=0o755)
        self.audit = self.folder / "audit.log"
        self.endpoint_dir = self._endpoint_folder()
        self._state = self.folder / "broker"
        self._credentials = self.folder / "credentials"
        self.runtime = self.folder / "broker-run"
        for path, mode in ((self._state, 0o700), (self._credentials, 0o700), (self.runtime, 0o755)):
            path.mkdir(mode=mode)
            if self.broker_user is not None:
                shutil.chown(path, self.broker_user, self.broker_user)
        private_file(self._credentials / "client_id", self.service.login.client_id, self.broker_user)
        private_file(self._credentials / "client_secret", self.service.login.secret, self.broker_user)
        self.cgroup = cgroup_folder(self.folder)
        self._config = self.folder / "broker.yaml"
        self._config.write_text(yaml.safe_dump(dict(self.setup.settings)))
        self._policy = self.folder / "spawner.toml"
        self._policy.write_text(self._policy_text())

    def start_spawner(self) -> None:
        """Start the spawner and wait for its socket. Raise `DaemonError` on failure."""
        argv: list[str | Path] = [self.prefix / "bin/twinlock-spawner", "--policy", self._policy]
        self.spawner = Daemon("twinlock-spawner", argv, self.folder / "spawner.log")
        self._started.append(self.spawner)
        self.spawner.wait_until(self.socket.exists, START_LIMIT, "make its socket")

    def start_broker(self) -> None:
        """Start the broker and wait until it takes commands. Raise `DaemonError` on failure."""
        program = self.setup.broker or (self.prefix / "bin/twinlock-broker",)
        argv: list[str | Path] = [*program, "--endpoint-dir", self.endpoint_dir]
        argv += ["--spawner-socket", self.socket, "--state", self._state, "--config", self._config]
        environment = {
            "HOME": str(self._state),
            "CREDENTIALS_DIRECTORY": str(self._credentials),
            "RUNTIME_DIRECTORY": str(self.runtime),
            "GLOBUS_SDK_SERVICE_URL_AUTH": URL,
        }
        log = self.folder / "broker.log"
        self.broker = Daemon("twinlock-broker", argv, log, user=self.broker_user, environment=environment)
        self._started.append(self.broker)
        self.endpoint_id = self.broker.wait_for_line("twinlock-broker ready", START_LIMIT).split()[-1]

    def _endpoint_folder(self) -> Path:
        """Make the endpoint folder, with a TMPDIR of ours: workers that are killed leave things there."""
        temporary = self.folder / "tmp"
        temporary.mkdir()
        temporary.chmod(0o1777)
        setup = replace(self.setup, environment={"TMPDIR": str(temporary)} | dict(self.setup.environment))
        return endpoint_folder(self.folder / "endpoint", setup, mapping=self.broker_user is not None)

    def stop(self) -> None:
        """End what was started, the last first, and remove the cgroup folder that the policy names, if any."""
        for daemon in reversed(self._started):
            daemon.stop()
        remove_cgroup(self.folder)

    def _policy_text(self) -> str:
        account = self.broker_user or pwd.getpwuid(os.getuid()).pw_name
        values: dict[str, object] = {
            "broker_user": account,
            "socket": str(self.socket),
            "audit_log": str(self.audit),
            "cgroup": self.cgroup,
            "environment": {"PATH": f"{self.prefix}/bin:/usr/local/bin:/usr/bin:/bin"},
            "programs": {"endpoint": list(self.setup.program) or [str(self.prefix / "bin/twinlock-endpoint")]},
        }
        return "".join(f"{name} = {toml(value)}\n" for name, value in (values | dict(self.setup.policy)).items())


def toml(value: object) -> str:
    """Return a value in TOML: an inline table, or what JSON writes the same way."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{json.dumps(name)} = {toml(item)}" for name, item in value.items()) + " }"
    return json.dumps(value)


@contextmanager
def manager(prefix: Path, folder: Path, service: Service, setup: Setup, broker_user: str | None) -> Iterator[Manager]:
    """Run a manager endpoint while the block runs; its end ends every user endpoint. Raise `DaemonError` on failure."""
    endpoint = Manager(prefix, folder, service, setup, broker_user)
    try:
        endpoint.start_spawner()
        endpoint.start_broker()
        yield endpoint
    finally:
        endpoint.stop()
