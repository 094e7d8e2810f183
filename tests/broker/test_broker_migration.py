"""`twinlock configure --from-globus` and `--to-globus`, with what the official agent's own code made."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from twinlock_broker.migration.config_text import change, set_pam_service

PEER = Path(os.environ.get("TWINLOCK_PREFIX", sys.prefix), "peer/bin")
UUID = "4b116d3c-1703-4f8f-9f6f-39921e5864df"
ACCOUNT = "daemon"
"""An account that every Debian has, as the broker's; without root the files are made for ourselves."""

_ENABLE_ON_BOOT = """
import pathlib, sys
from globus_compute_endpoint import boot_persistence
boot_persistence._SYSTEMD_UNIT_DIR = pathlib.Path(sys.argv[2])
class App:
    def login(self): pass
boot_persistence.enable_on_boot(pathlib.Path(sys.argv[1]), App())
"""
_GET_CONFIG = """
import json, pathlib, sys
from globus_compute_endpoint.endpoint.config.utils import get_config
config = get_config(pathlib.Path(sys.argv[1]))
names = ("display_name", "email", "public", "identity_mapping_config_path", "audit_log_path", "high_assurance")
print(json.dumps({name: getattr(config, name) and str(getattr(config, name)) for name in names}
                 | {"pam": [config.pam.enable, config.pam.service_name]}))
"""

WITHOUT_ROOM = ("/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh")
"""Runs a command that can write nothing into files."""

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(not (PEER / "python").exists(), reason="needs the agent's environment, see packaging/peer"),
]


class Host:
    """A machine's folders: the agent's home, its unit, and what is ours."""

    def __init__(self, root: Path) -> None:
        self.home, self.units = root / "home", root / "units"
        self.old = self.home / ".globus_compute" / "cluster"
        self.unit = self.units / "globus-compute-endpoint-cluster.service"
        self.new, self.policy = root / "etc" / "endpoint", root / "etc" / "spawner.toml"
        self.state, self.logs = root / "state", root / "logs"

    def agent(self, program: str, *words: str | Path) -> str:
        """The agent's code at work in this home."""
        environment = {"HOME": str(self.home), "PATH": f"{PEER}:/usr/bin:/bin"}
        argv = [PEER / program, *words]
        return subprocess.run(argv, env=environment, check=True, capture_output=True, text=True, timeout=300).stdout

    def twinlock(self, *words: str | Path, under: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """The command's outcome, if the command `under` runs it."""
        argv = [*under, Path(sys.executable).with_name("twinlock"), *words]
        return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)

    def migrate(
        self, direction: str = "--from-globus", old: Path | None = None, under: tuple[str, ...] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """``twinlock configure`` from the agent's folder, or back into it."""
        where = ("--policy", self.policy, "--unit", self.unit, "--state", self.state, "--logs", self.logs)
        return self.twinlock("configure", direction, old or self.old, *where, self.new, under=under)

    def config(self) -> dict[str, Any]:
        """What the agent reads out of its folder."""
        found: dict[str, Any] = json.loads(self.agent("python", "-c", _GET_CONFIG, self.old))
        return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the agent's ``configure`` and ``enable-on-boot`` write."""
    host = Host(tmp_path_factory.mktemp("peer"))
    host.home.mkdir()
    host.units.mkdir()
    host.agent(
        "globus-compute-endpoint", "configure", "--multi-user", "true", "--contact-email", "hpc@a.example", "cluster"
    )
    host.agent("python", "-c", _ENABLE_ON_BOOT, host.old, host.units)
    return host.home.parent


@pytest.fixture
def host(made: Path, tmp_path: Path) -> Host:
    """The same for one test, with a uuid as after its first start, and a policy of ours."""
    host = Host(tmp_path)
    shutil.copytree(made / "home", host.home)
    shutil.copytree(made / "units", host.units)
    config = host.old / "config.yaml"
    config.write_text(config.read_text().replace(str(made), str(tmp_path)))
    (host.old / "endpoint.json").write_text(json.dumps({"endpoint_id": UUID}))
    host.policy.parent.mkdir()
    host.policy.write_text(
        f'broker_user = "{ACCOUNT}"\nsocket = "{tmp_path}/s"\naudit_log = "{tmp_path}/a"\n'
        '# no sessions yet\npam_service = ""  # none\n[programs]\nendpoint = ["/bin/true"]\n'
    )
    return host


def add(path: Path, text: str) -> None:
    """Append to a file."""
    path.write_text(path.read_text() + text)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_root_installation_becomes_ours(host: Host) -> None:
    add(host.old / "config.yaml", "pam:\n  enable: true\n  service_name: cluster\n# said twice\ndebug: true\n")
    drop_in = host.unit.with_name(f"{host.unit.name}.d") / "override.conf"
    drop_in.parent.mkdir()
    (host.units / "secrets").write_text("GLOBUS_COMPUTE_CLIENT_SECRET='hush hush'\n")
    drop_in.write_text(
        '[Service]\nEnvironment=GLOBUS_COMPUTE_CLIENT_ID=abc "HTTPS_PROXY=http://p"\n'
        f"EnvironmentFile=-{host.units}/nowhere\nEnvironmentFile={host.units}/secrets\nLimitNOFILE=65536\n"
    )
    before = tree(host.home)
    done = host.migrate()
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(host.home) == before
    for words in (
        UUID,
        "pam_service = 'cluster'",
        "disable --now globus-compute-endpoint-cluster",
        "LimitNOFILE=65536",
    ):
        assert words in done.stdout
    assert "HTTPS_PROXY" in done.stdout
    assert "hush" not in done.stdout
    assert "http://p" not in done.stdout

    checked = host.twinlock("check", "--policy", host.policy, host.new)
    assert checked.returncode == 0, checked.stdout
    assert f"endpoint.json: {UUID}" in checked.stdout
    assert 'pam_service = "cluster"  # none' in host.policy.read_text()
    config = (host.new / "config.yaml").read_text()
    assert "# said twice" in config
    assert yaml.safe_load(config) == {
        "display_name": "cluster",  # the folder's name was what users saw
        "email": "hpc@a.example",
        "public": True,
        "debug": True,
        "identity_mapping_config_path": "identity_mapping_config.json",
    }
    client = host.new.parent / "client"
    assert ((client / "id").read_text(), (client / "secret").read_text()) == ("abc\n", "hush hush\n")
    for secret in (client, client / "id", client / "secret"):
        assert stat.S_IMODE(secret.stat().st_mode) & 0o077 == 0
    for path in (host.new, *host.new.iterdir()):
        assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
        if os.geteuid() == 0:
            assert (path.owner(), path.group(), stat.S_IMODE(path.stat().st_mode) & 0o070) in (
                ("root", ACCOUNT, 0o050 if path.is_dir() else 0o040),
            )


def test_the_policy_is_replaced_as_a_whole(host: Host) -> None:
    add(host.old / "config.yaml", "pam: {enable: true, service_name: cluster}\n")
    before = host.policy.read_text()
    host.policy.chmod(0o640)
    owner = os.geteuid() or 1, os.getegid() or 1
    os.chown(host.policy, *owner)
    with host.policy.open() as opened_before:
        assert host.migrate().returncode == 0
        assert opened_before.read() == before
    assert 'pam_service = "cluster"' in host.policy.read_text()
    status = host.policy.stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o640, *owner)
    assert sorted(path.name for path in host.policy.parent.iterdir()) == ["endpoint", "spawner.toml"]


def test_back_without_a_change_changes_nothing(host: Host) -> None:
    add(host.old / "config.yaml", "pam: {service_name: cluster}\nhigh_assurance: true\n")
    add(host.old / "config.yaml", f"audit_log_path: {host.old}/audit.log\n")
    before = tree(host.home)
    assert host.migrate().returncode == 0
    assert yaml.safe_load((host.new / "config.yaml").read_text())["audit_log_path"] == f"{host.logs}/audit.log"
    done = host.migrate("--to-globus")
    assert (done.returncode, done.stderr) == (0, "")
    assert tree(host.home) == before
    assert "systemctl enable --now globus-compute-endpoint-cluster" in done.stdout


def test_back_with_changes(host: Host) -> None:
    assert host.migrate().returncode == 0
    (host.new / "config.yaml").write_text((host.new / "config.yaml").read_text().replace("a.example", "b.example"))
    add(host.new / "user_environment.yaml", "SITE: b\n")
    host.policy.write_text(set_pam_service(host.policy.read_text(), "cluster"))
    environment = (host.old / "user_environment.yaml").read_bytes()
    done = host.migrate("--to-globus")
    assert (done.returncode, done.stderr) == (0, "")
    assert host.config() == {
        "display_name": None,
        "email": "hpc@b.example",
        "public": "True",
        "identity_mapping_config_path": str(host.old / "example_identity_mapping_config.json"),
        "audit_log_path": None,
        "high_assurance": False,
        "pam": [True, "cluster"],
    }
    assert (host.old / "user_environment.yaml.before").read_bytes() == environment
    assert (host.old / "user_environment.yaml").read_bytes() == (host.new / "user_environment.yaml").read_bytes()


def test_what_was_there_at_first_outlives_going_back_again_and_again(host: Host) -> None:
    assert host.migrate().returncode == 0
    said, texts = [], [(host.old / "user_environment.yaml").read_bytes()]
    for site in ("SITE: b\n", "SITE: c\n", "SITE: d\n"):
        (host.new / "user_environment.yaml").write_text(site)
        said.append(host.migrate("--to-globus").stdout)
        texts.append(site.encode())
    kept = [host.old / f"user_environment.yaml{end}" for end in (".before", ".before.2", ".before.3", "")]
    assert [path.read_bytes() for path in kept] == texts
    for path, text in zip(kept, said, strict=False):
        assert f"user_environment.yaml: written; before: {path.name}\n" in text


def test_a_file_that_goes_back_is_replaced_as_a_whole(host: Host) -> None:
    assert host.migrate().returncode == 0
    (host.new / "user_environment.yaml").write_text("SITE: b\n")
    path = host.old / "user_environment.yaml"
    path.chmod(0o604)
    path.with_name("user_environment.new").write_text("SI")  # what a crash left of an earlier attempt
    assert host.migrate("--to-globus").returncode == 0
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("SITE: b\n", 0o604)
    assert not path.with_name("user_environment.new").exists()


def test_a_file_that_cannot_be_written_stays(host: Host) -> None:
    assert host.migrate().returncode == 0
    (host.new / "user_environment.yaml").write_text("SITE: b\n")
    before = (host.old / "user_environment.yaml").read_bytes()
    done = host.migrate("--to-globus", under=WITHOUT_ROOM)
    assert (done.returncode, done.stderr) == (os.EX_CANTCREAT, f"twinlock: {host.old}: File too large\n")
    assert (host.old / "user_environment.yaml").read_bytes() == before


@pytest.mark.parametrize("direction", ["--from-globus", "--to-globus"])
def test_a_unit_that_cannot_be_read(host: Host, direction: str) -> None:
    if direction == "--to-globus":
        assert host.migrate().returncode == 0
    add(host.unit, "Environment='GLOBUS_COMPUTE_CLIENT_ID=abc\n")
    before = tree(host.home)
    done = host.migrate(direction)
    assert done.stderr == f"twinlock: {host.unit}: can't be read: No closing quotation\n"
    assert (done.returncode, tree(host.home)) == (os.EX_NOINPUT, before)


def test_a_folder_that_the_peer_never_had(host: Host) -> None:
    assert host.migrate().returncode == 0
    shutil.rmtree(host.old)
    assert host.migrate("--to-globus").returncode == 0
    read = yaml.safe_load((host.old / "config.yaml").read_text())
    assert read.keys() == {"email", "public", "identity_mapping_config_path"}
    assert Path(read["identity_mapping_config_path"]).parent == host.old
    assert json.loads((host.old / "endpoint.json").read_text()) == {"endpoint_id": UUID}


def test_keys_that_went_away_are_dropped_and_go_back_for_an_agent_of_their_age(host: Host) -> None:
    add(host.old / "config.yaml", "multi_user: true\n")
    before = tree(host.home)
    done = host.migrate()
    assert (done.returncode, done.stderr) == (0, "")
    assert "multi_user: removed" in done.stdout
    assert "multi_user" not in yaml.safe_load((host.new / "config.yaml").read_text())
    assert host.twinlock("check", "--policy", host.policy, host.new).returncode == 0
    assert host.migrate("--to-globus").returncode == 0
    assert tree(host.home) == before


def test_a_mapper_without_its_list_goes_back_as_the_agent_reads_it(host: Host) -> None:
    assert host.migrate().returncode == 0
    mapping = host.new / "identity_mapping_config.json"
    [mapper] = json.loads(mapping.read_text())
    mapping.write_text(json.dumps(mapper))
    assert host.migrate("--to-globus").returncode == 0
    read = yaml.safe_load((host.old / "config.yaml").read_text())
    assert json.loads(Path(read["identity_mapping_config_path"]).read_text()) == [mapper]
    mapping.write_text("{")
    assert host.migrate("--to-globus").returncode == 0
    assert Path(read["identity_mapping_config_path"]).read_text() == "{"


def test_what_lies_elsewhere_stays_and_what_a_template_includes_moves(host: Host) -> None:
    (host.old / "parts").mkdir()
    (host.old / "parts" / "provider.j2").write_text("{type: LocalProvider}")
    (host.old / "user_config_template.yaml.j2").write_text(
        'engine: {type: GlobusComputeEngine, provider: {% include "parts/provider.j2" %}}\n'
    )
    mapper = host.home / "who"
    mapper.write_text("#!/bin/sh\n")
    mapper.chmod(0o700)
    mapping = host.home / "mapping.json"
    external = {"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(mapper)]}
    mapping.write_text(json.dumps([external]))
    mapping.chmod(0o600)
    config = yaml.safe_load((host.old / "config.yaml").read_text())
    config["identity_mapping_config_path"] = str(mapping)
    (host.old / "config.yaml").write_text(yaml.safe_dump(config))
    done = host.migrate()
    assert done.returncode == 0, done.stderr
    moved = yaml.safe_load((host.new / "config.yaml").read_text())
    assert moved["identity_mapping_config_path"] == str(mapping)
    assert host.twinlock("check", "--policy", host.policy, host.new).returncode == 0
    if os.geteuid() == 0:
        assert f"{mapping}: {ACCOUNT} can't read it" in done.stdout
        assert f"{mapper}: {ACCOUNT} can't run it" in done.stdout


def test_a_part_in_another_encoding_moves_as_it_is(host: Host) -> None:
    (host.old / "part.j2").write_bytes("# M\xfcnchen\n".encode("latin-1"))
    add(host.old / "user_config_template.yaml.j2", "{% include 'part.j2' ignore missing %}\n")
    done = host.migrate()
    assert (done.returncode, done.stderr) == (0, "")
    assert (host.new / "part.j2").read_bytes() == (host.old / "part.j2").read_bytes()


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("file", "text", "status", "words"),
    [
        ("config.py", "config = 1\n", os.EX_CONFIG, "write its values into config.yaml"),
        ("config.yaml", "engine: {type: ThreadPoolEngine}\n", os.EX_CONFIG, "user_config_template.yaml.j2"),
        ("config.yaml", "identity_maping_config_path: x\n", os.EX_CONFIG, "did you mean"),
        ("config.yaml", "identity_mapping_config_path: /nowhere\n", os.EX_NOINPUT, "/nowhere"),
        ("example_identity_mapping_config.json", "{", os.EX_CONFIG, "identity mapping"),
        ("endpoint.json", "{}", os.EX_CONFIG, "endpoint_id"),
    ],
)
def test_what_cannot_be_carried_over(host: Host, file: str, text: str, status: int, words: str) -> None:
    (host.old / file).write_text(text)
    done = host.migrate()
    assert (done.returncode, words in done.stderr) == (status, True), done.stderr
    assert not host.new.exists()


def test_nothing_is_overwritten(host: Host) -> None:
    host.new.mkdir()
    assert host.migrate().returncode == os.EX_CANTCREAT
    assert tree(host.new) == {}
    assert host.migrate(old=host.home / "nowhere").returncode == os.EX_NOINPUT
    both = host.twinlock("configure", "--from-globus", host.old, "--display-name", "x", host.home / "third")
    assert both.returncode == 100


def test_the_state_of_another_endpoint_is_in_the_way(host: Host) -> None:
    host.state.mkdir()
    (host.state / "endpoint.json").write_text(json.dumps({"endpoint_id": UUID.replace("4", "5")}))
    done = host.migrate()
    assert (done.returncode, "belongs to another endpoint" in done.stderr) == (os.EX_CONFIG, True)
    assert not host.new.exists()


def test_a_broker_without_an_account(host: Host) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    host.policy.write_text('broker_user = "nobody-at-all"\n')
    done = host.migrate()
    assert (done.returncode, "useradd" in done.stderr) == (os.EX_NOUSER, True)
    assert not host.new.exists()


@pytest.mark.parametrize(
    ("text", "changes", "wanted"),
    [
        ("a: 1 # one\n\n# two\nb:\n  c: [1,\n    2]\n# end\n", {"b": None}, "a: 1 # one\n\n# two\n# end\n"),
        ("a: 1 # one\nb: 2\n", {"a": "x", "c": True}, "a: x # one\nb: 2\nc: true\n"),
        ("# nothing\n", {"a": 1}, "# nothing\na: 1\n"),
        ("{a: 1, b: 2}\n", {"a": None, "c": 3}, "b: 2\nc: 3\n"),
        ("", {"a": None}, ""),
    ],
)
def test_single_keys_change_and_the_rest_stays(text: str, changes: dict[str, object], wanted: str) -> None:
    assert change(text, changes) == wanted


def test_a_policy_without_pam_service_gets_one_before_its_tables() -> None:
    assert set_pam_service("a = 1\n[programs]\n", "x") == 'a = 1\npam_service = "x"\n\n[programs]\n'
    assert set_pam_service("a = 1\n", "x") == 'a = 1\npam_service = "x"\n\n'
    with pytest.raises(ValueError, match="no place"):
        set_pam_service('text = """\npam_service = "y"\n"""\n', "x")
