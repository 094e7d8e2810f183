"""`twinlock check` about verified mode: which programs verify, by what, and whether that protects an account."""

import json
import os
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from broker_rig import MANAGER
from patience import CHECK, patient_program
from twinlock_broker.checks import modes, signed_work
from twinlock_broker.checks.finding import Finding, Kind, Subject
from twinlock_broker.config import policies
from twinlock_broker.config.folder import read_folder
from twinlock_broker.config.placed import Placed

PROGRAM = str(Path(sys.executable).with_name("twinlock-endpoint"))
PLAIN = {"endpoint": [PROGRAM]}
PATIENT = patient_program("twinlock_broker.commands", CHECK)
ENGINE = "engine: {type: GlobusComputeEngine, provider: {type: LocalProvider}}\n"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, whose files these have to be")


def verified(file: Path | str = "/etc/twinlock/verified.toml") -> dict[str, list[str]]:
    """A program in verified mode."""
    return {"endpoint": [PROGRAM, "--verified", str(file)]}


def policy(path: Path, programs: dict[str, list[str]], **values: Any) -> Path:
    """A policy that lets in the account `daemon`, unless `values` say otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"broker_user": "nobody", "socket": f"{path}.sock", "system_uids": [], "allow_groups": ["daemon"]}
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in (whole | values).items()]
    lines += ["[programs]\n", *(f"{name} = {json.dumps(argv)}\n" for name, argv in programs.items())]
    path.write_text("".join(lines))
    return path


def texts(found: list[Finding], kind: Kind) -> list[str]:
    """Those of one kind."""
    return [finding.text for finding in found if finding.kind is kind]


@pytest.fixture(autouse=True)
def no_policies_of_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Only those of a test count."""
    monkeypatch.setattr(policies, "_ETC", tmp_path / "etc")
    monkeypatch.setattr(policies, "_UNITS", (tmp_path / "units",))


@pytest.mark.parametrize(
    ("argv", "mode"),
    [
        ([PROGRAM], "plain"),
        ([PROGRAM, "--verified", "/f"], "verified"),
        ([PROGRAM, "--verified"], "plain"),
        ([PROGRAM, "--agent", "/a", "--verified", "/f"], "plain"),
        (["/bin/sh", "--verified", "/f"], "plain"),
    ],
)
def test_the_mode_of_a_program(argv: list[str], mode: str) -> None:
    assert policies.mode(argv) == mode


def test_each_program_has_its_mode(tmp_path: Path) -> None:
    path = policy(tmp_path / "spawner.toml", {"old": [PROGRAM], **verified("/f")})
    found = list(modes.check(path))
    assert {finding.subject for finding in found} == {Subject.MODE}
    assert [text.removeprefix(f"{path}: ") for text in texts(found, Kind.OK)] == [
        "the program 'endpoint' runs in verified mode, by /f",
        "the program 'old' runs in plain mode, which believes the broker",
    ]
    [text] = texts(found, Kind.WARNING)
    assert "'old' runs in plain mode as the accounts of 'endpoint'" in text


@pytest.mark.parametrize(("value", "warned"), [({}, 1), ({"verified_only": False}, 1), ({"verified_only": True}, 0)])
def test_a_policy_whose_programs_all_verify_can_insist_on_that(
    tmp_path: Path, value: dict[str, bool], warned: int
) -> None:
    found = texts(list(modes.check(policy(tmp_path / "spawner.toml", verified(), **value))), Kind.WARNING)
    assert len(found) == warned
    assert all("verified_only = true" in text for text in found)


def test_a_policy_without_verified_programs_is_asked_nothing(tmp_path: Path) -> None:
    found = list(modes.check(policy(tmp_path / "spawner.toml", PLAIN)))
    assert [finding.kind for finding in found] == [Kind.OK]


@pytest.mark.parametrize("name", ["instances/gpu/spawner.toml", "etc/spawner.toml", "etc/instances/x/spawner.toml"])
def test_a_plain_endpoint_for_the_same_accounts_is_a_warning(tmp_path: Path, name: str) -> None:
    """Whichever of the two policies is looked at."""
    path = policy(tmp_path / "spawner.toml", verified(), verified_only=True)
    other = policy(tmp_path / name, PLAIN)
    for looked_at in (path, other) if name.startswith("instances") else (path,):
        [text] = texts(list(modes.check(looked_at)), Kind.WARNING)
        assert text.startswith(f"{other}: 'endpoint' runs in plain mode as accounts for which {path} wants signed work")
        assert "(daemon)" in text


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("ExecStart=/usr/bin/twinlock-spawner --policy {}/a/spawner.toml", ["a"]),
        ("ExecStart=-/opt/x/bin/twinlock-spawner --policy={}/a/spawner.toml", ["a"]),
        ('ExecStart=/usr/bin/twinlock-spawner --policy "{}/a/spawner.toml"', ["a"]),
        ("ExecStart=/usr/bin/twinlock-spawner --policy {}/%i/spawner.toml", ["a", "b"]),
        ("ExecStart=/usr/bin/twinlock-broker --policy {}/a/spawner.toml", []),
        ("#ExecStart=/usr/bin/twinlock-spawner --policy {}/a/spawner.toml", []),
    ],
)
@pytest.mark.parametrize("unit", ["site.service", "site@.service", "site.service.d/own.conf"])
def test_policies_that_units_name_are_compared_too(tmp_path: Path, line: str, names: list[str], unit: str) -> None:
    path = policy(tmp_path / "spawner.toml", verified(), verified_only=True)
    for name in ("a", "b"):
        policy(tmp_path / "far" / name / "spawner.toml", PLAIN)
    written = tmp_path / "units" / unit
    written.parent.mkdir(parents=True)
    written.write_text(f"[Service]\n{line.format(tmp_path / 'far')}\n")
    warned = texts(list(modes.check(path)), Kind.WARNING)
    assert [text.partition(": ")[0] for text in warned] == [
        str(tmp_path / f"far/{name}/spawner.toml") for name in names
    ]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ({"allow_groups": ["bin"]}, Kind.OK),
        ({"deny_users": ["daemon"]}, Kind.OK),
        ({"broker_user": "daemon"}, Kind.OK),
        ({"allow_groups": [], "deny_groups": ["bin", "daemon"]}, Kind.OK),
        ({"allow_groups": [], "deny_users": ["daemon"]}, Kind.UNKNOWN),
        ({"allow_groups": []}, Kind.WARNING),
    ],
)
def test_a_plain_endpoint_for_other_accounts_is_none(tmp_path: Path, values: dict[str, Any], kind: Kind) -> None:
    path = policy(tmp_path / "spawner.toml", verified(), verified_only=True)
    other = policy(tmp_path / "instances/gpu/spawner.toml", PLAIN, **values)
    [found] = [finding for finding in modes.check(path) if finding.text.startswith(f"{other}: ")]
    assert found.kind is kind


def test_two_verified_policies_need_no_comparison(tmp_path: Path) -> None:
    path = policy(tmp_path / "spawner.toml", verified(), verified_only=True)
    policy(tmp_path / "instances/gpu/spawner.toml", verified(), verified_only=True)
    assert [finding.kind for finding in modes.check(path)] == [Kind.OK]


class Site:
    """An endpoint folder with the files of root's that make it a verified one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.endpoint = folder / "endpoint"
        self.endpoint.mkdir(mode=0o755)
        self.write("endpoint/config.yaml", "identity_mapping_config_path: map.json\n")
        self.write("endpoint/map.json", "[]")
        self.write("endpoint/user_config_template.yaml.j2", ENGINE)
        self.write("signers", "")
        self.file = self.configure()
        self.policy = policy(folder / "spawner.toml", verified(self.file))

    def write(self, name: str, text: str, mode: int = 0o644) -> Path:
        """Write a file."""
        path = self.folder / name
        path.parent.mkdir(mode=0o755, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def configure(self, **values: Any) -> Path:
        """Write `verified.toml`, with these values in place of the usual ones."""
        whole = {
            "manager": MANAGER,
            "site": "cluster.example.org",
            "endpoint_dir": str(self.endpoint),
            "control": "/run/twinlock-broker/control.sock",
            "broker_uid": pwd.getpwnam("nobody").pw_uid,
            "amqp_hosts": ["amqp.example.org:443"],
            "signers": [str(self.folder / "signers")],
        }
        text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in (whole | values).items())
        return self.write("verified.toml", text)

    def check(self) -> list[tuple[str, str, str]]:
        """What the command finds: kind, subject and text."""
        argv: list[Any] = [*PATIENT, "check", "--json", "--offline", "--policy", self.policy, self.endpoint]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)
        return [(row["kind"], row["subject"], row["text"]) for row in json.loads(done.stdout)["findings"]]

    def failures(self, *subjects: Subject) -> list[str]:
        """What would fail, about these subjects."""
        return [text for kind, subject, text in self.check() if kind == Kind.FAILURE and subject in subjects]

    def of_its_file(self, place: Placed) -> list[Finding]:
        """What is found about `verified.toml` for an endpoint at this place."""
        return list(signed_work.check(self.policy, read_folder(self.endpoint), place))


@pytest.fixture
def site(runtime: Path) -> Site:
    """It, where every account can enter."""
    return Site(runtime)


@needs_root
def test_a_verified_endpoint_that_is_as_it_should_be(site: Site) -> None:
    found = [(kind, subject, text) for kind, subject, text in site.check() if subject in ("endpoint", "verified")]
    assert {kind for kind, *_ in found} == {Kind.OK}, found
    assert any("accepts the configuration" in text for _, subject, text in found if subject == Subject.ENDPOINT)
    assert any(f"{site.file}: keys, values" in text for *_, text in found)


@pytest.mark.cases(1)
@needs_root
@pytest.mark.parametrize("name", ["parent_config.display_name", "mapped_identity.globus.id"])
def test_a_template_that_uses_what_only_the_broker_says(site: Site, name: str) -> None:
    site.write("endpoint/user_config_template.yaml.j2", f"{ENGINE}display_name: '{{{{ _GC.{name} }}}}'\n")
    [text] = site.failures(Subject.RENDERING, Subject.ENDPOINT)
    assert "which isn't known in verified mode" in text
    policy(site.policy, PLAIN)
    assert site.failures(Subject.RENDERING, Subject.ENDPOINT) == []


@pytest.mark.cases(1)
@needs_root
@pytest.mark.parametrize(
    ("template", "words"),
    [
        (f"{ENGINE}log_dir: /tmp\n", "has 'log_dir', which an endpoint in verified mode"),
        (ENGINE.replace("Engine,", "Engine, encrypted: false,"), "needs 'encrypted: true'"),
        (f"{ENGINE}allowed_functions: []\n", "use `allowed_functions` of verified.toml"),
    ],
)
def test_a_configuration_that_only_a_plain_endpoint_may_have(site: Site, template: str, words: str) -> None:
    site.write("endpoint/user_config_template.yaml.j2", template)
    [text] = site.failures(Subject.RENDERING, Subject.ENDPOINT)
    assert words in text


@needs_root
def test_each_fault_of_the_file_is_a_failure(site: Site) -> None:
    site.configure(site="Bad_Site", signers=[])
    found = site.check()
    wrong = [text for kind, subject, text in found if (kind, subject) == (Kind.FAILURE, Subject.VERIFIED)]
    assert len(wrong) == 2
    assert any("site is 'Bad_Site'" in text for text in wrong)
    [skipped] = [text for kind, subject, text in found if (kind, subject) == (Kind.UNKNOWN, Subject.ENDPOINT)]
    assert f"{site.file} has to be corrected first" in skipped


@pytest.mark.cases(1)
@needs_root
@pytest.mark.parametrize("name", ["verified.toml", "endpoint/user_environment.yaml", "signers", "revoked"])
def test_files_that_users_cannot_read_are_found(site: Site, name: str) -> None:
    site.write("endpoint/user_environment.yaml", "TOKEN: x\n")
    site.configure(revoked=str(site.write("revoked", "")))
    assert [text for kind, _, text in site.check() if kind != Kind.OK and "every account" in text] == []
    (site.folder / name).chmod(0o640)
    [text] = site.failures(Subject.ENDPOINT)
    assert f"{site.folder / name}" in text
    assert "Permission denied" in text


@needs_root
def test_a_list_of_revoked_keys_with_which_nothing_would_run_is_found(site: Site) -> None:
    site.configure(revoked=str(site.write("revoked", "ada's old laptop\n")))
    [text] = site.failures(Subject.ENDPOINT)
    assert "revoked: line 1 is not a public key" in text


@needs_root
def test_a_folder_of_its_own_is_rendered_beside_the_brokers(site: Site) -> None:
    site.write("own/user_config_template.yaml.j2", f"{ENGINE}log_dir: /tmp\n")
    site.configure(endpoint_dir=str(site.folder / "own"))
    found = site.check()
    rendered = [text for kind, subject, text in found if (kind, subject) == (Kind.OK, Subject.RENDERING)]
    assert [str(site.endpoint) in rendered[0], str(site.folder / "own") in rendered[1]] == [True, True]
    assert any(
        "log_dir" in text for kind, subject, text in found if subject == Subject.ENDPOINT and kind == Kind.FAILURE
    )


@needs_root
def test_a_file_that_is_for_another_broker(site: Site, tmp_path: Path) -> None:
    site.configure(broker_uid=1, control="/elsewhere.sock")
    place = Placed(tmp_path, site.write("broker.yaml", "runtime_dir: /run/mine\n"))
    (tmp_path / "endpoint.json").write_text(json.dumps({"endpoint_id": "7b1f2f6e-0000-4000-8000-000000000001"}))
    found = site.of_its_file(place)
    manager, broker = texts(found, Kind.FAILURE)
    assert f"manager is {MANAGER}, and the endpoint is registered as 7b1f2f6e" in manager
    assert "broker_uid is 1, and the policy's broker_user has the uid" in broker
    [control] = texts(found, Kind.WARNING)
    assert "/run/mine/control.sock" in control


def program(path: Path, text: str) -> Path:
    """A program that says this on its standard error."""
    path.write_text(f"#!/bin/sh\necho '{text}' >&2\n")
    path.chmod(0o755)
    return path


@needs_root
@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("OpenSSH_9.2p1 Debian-2+deb12u6, OpenSSL 3.0.19", Kind.OK),
        ("OpenSSH_8.9p1", Kind.OK),
        ("OpenSSH_10.0p2", Kind.OK),
        ("OpenSSH_8.7p1, OpenSSL 3.0.7 1 Nov 2022", Kind.FAILURE),
        ("Sun_SSH_1.1", Kind.UNKNOWN),
        (None, Kind.FAILURE),
    ],
)
def test_an_openssh_that_is_too_old(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str | None, kind: Kind
) -> None:
    path = tmp_path / "none" if said is None else program(tmp_path / "ssh", said)
    monkeypatch.setattr(signed_work, "_SSH", str(path))
    assert site.of_its_file(Placed(tmp_path))[-1].kind is kind


@needs_root
@pytest.mark.parametrize(("said", "kind"), [("1\n", Kind.WARNING), ("0\n", Kind.OK), (None, Kind.OK)])
def test_a_host_in_fips_mode(
    site: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str | None, kind: Kind
) -> None:
    path = tmp_path / "fips_enabled"
    if said is not None:
        path.write_text(said)
    monkeypatch.setattr(signed_work, "_FIPS", path)
    (found,) = (each for each in site.of_its_file(Placed(tmp_path)) if "FIPS mode" in each.text)
    assert found.kind is kind
