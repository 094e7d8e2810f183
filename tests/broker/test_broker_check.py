"""`twinlock check` finds what would fail, says what it looked at, and promises nothing else."""

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_rig import NO_POLICY
from patience import CHECK, patient_program
from spawner_rig import gone
from twinlock_broker.checks import loader
from twinlock_broker.checks.accounts import DEFAULTS
from twinlock_broker.checks.finding import MEANINGS, Finding, Kind, Subject
from twinlock_broker.checks.policy import check as check_policy
from twinlock_broker.checks.sampling import NoSample, value
from twinlock_spawner.policy import Policy
from twinlock_testbed.users import change_accounts, throw_away

TWINLOCK = Path(sys.executable).with_name("twinlock")
PATIENT = patient_program("twinlock_broker.commands", CHECK)
"""The same, which isn't stopped by its limits on a machine that is busy."""

ADA = {"id": "7b1f2f6e-0000-4000-8000-000000000001", "username": "ada@example.org"}
TEMPLATE = "user_config_template.yaml.j2"
SCHEMA = "user_config_schema.json"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `configure` makes it."""
    folder = tmp_path_factory.mktemp("made") / "endpoint"
    subprocess.run([TWINLOCK, "configure", folder], check=True, capture_output=True, timeout=60)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy of it for one test."""
    return Path(shutil.copytree(made, tmp_path / "endpoint"))


def check(folder: Path, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    """The command's outcome."""
    argv = [*PATIENT, "check", *NO_POLICY, *words, folder]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def findings(folder: Path, *words: str | Path) -> list[tuple[str, str, str]]:
    """What it found: kind, subject and text."""
    found = json.loads(check(folder, "--json", *words).stdout)
    return [(row["kind"], row["subject"], row["text"]) for row in found["findings"]]


def failures(folder: Path, *words: str | Path) -> list[str]:
    """The texts of what would fail."""
    return [text for kind, _, text in findings(folder, *words) if kind == Kind.FAILURE]


ENGINE = "engine: {type: GlobusComputeEngine, provider: {type: LocalProvider}}\n"


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("engine: {type: NoSuchEngine}\n", ["'NoSuchEngine'", "GlobusComputeEngine"]),
        ("engine: {type: GlobusComputEngine}\n", ["did you mean 'GlobusComputeEngine'"]),
        (ENGINE.replace("LocalProvider", "SlurmProvder"), ["'SlurmProvder'", "did you mean 'SlurmProvider'"]),
        (ENGINE.replace("{type: L", "{init_block: 1, type: L"), ["'init_block'", "did you mean 'init_blocks'"]),
        (ENGINE.replace("{type: L", "{launcher: {type: SrunLaunch}, type: L"), ["did you mean 'SrunLauncher'"]),
        (ENGINE.replace("Engine,", "Engine, max_worker_per_node: 2,"), ["did you mean 'max_workers_per_node'"]),
        (ENGINE.replace("Engine,", "Engine, max_workers_per_node: four,"), ["max_workers_per_node", "'four'"]),
        (ENGINE.replace("Engine,", "Engine, address: 192.0.2.1,"), ["192.0.2.1"]),
        (ENGINE + "idle_heartbeat_soft: 10\n", ["did you mean 'idle_heartbeats_soft'"]),
        (ENGINE + "idle_heartbeats_soft: soon\n", ["'soon'", "a whole number"]),
        ('engine: {type: ThreadPoolEngine}\ndisplay_name: "{{ worker_init | default(1) }}"\n', ["isn't valid YAML"]),
    ],
)
def test_what_the_endpoint_would_refuse_is_found(folder: Path, template: str, words: list[str]) -> None:
    (folder / TEMPLATE).write_text(template)
    done = check(folder)
    assert done.returncode == os.EX_CONFIG
    [line] = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert all(word in line for word in words), line


def test_each_option_of_the_schema_is_left_out_once(folder: Path) -> None:
    (folder / TEMPLATE).write_text(
        "engine: {type: ThreadPoolEngine, max_workers: {{ workers | default('many') }}}\n"
        "display_name: {{ worker_init }}\n"
    )
    without = {text.partition(":")[0]: text for text in failures(folder)}
    assert without.keys() == {"without 'workers'", "without 'worker_init'"}
    assert "max_workers" in without["without 'workers'"] or "can't be made" in without["without 'workers'"]
    assert "needs the option 'worker_init'" in without["without 'worker_init'"]


def test_an_option_that_the_schema_requires_is_never_left_out(folder: Path) -> None:
    (folder / SCHEMA).write_text(json.dumps({"properties": {"x": {"type": "string"}}, "required": ["x"]}))
    (folder / TEMPLATE).write_text("engine: {type: ThreadPoolEngine}\ndisplay_name: {{ x }}\n")
    assert failures(folder) == []


def test_without_a_schema_a_template_may_need_its_options(folder: Path) -> None:
    (folder / SCHEMA).unlink()
    (folder / TEMPLATE).write_text("engine: {type: ThreadPoolEngine}\ndisplay_name: {{ x }}\n")
    assert failures(folder) == []


def test_each_choice_is_tried(folder: Path) -> None:
    schema = {"properties": {"queue": {"enum": ["short", "gpu"]}, "wide": {"type": "boolean"}}}
    (folder / SCHEMA).write_text(json.dumps(schema))
    (folder / TEMPLATE).write_text(
        "engine:\n  type: ThreadPoolEngine\n"
        "{% if queue | default('') == '\"gpu\"' %}  gpus: 1\n{% endif %}"
        "{% if wide is defined and not wide %}  nodes: 1\n{% endif %}"
    )
    assert [text.partition(":")[0] for text in failures(folder)] == ["with queue='gpu'", "with wide=False"]


def test_own_options_are_taken_in_place_of_samples(folder: Path) -> None:
    (folder / SCHEMA).write_text(json.dumps({"properties": {"cores": {}}, "required": ["cores"]}))
    (folder / TEMPLATE).write_text("engine: {type: ThreadPoolEngine, max_workers: {{ cores + 0 }}}\n")
    assert "the options {'cores': 'sample'}" in failures(folder)[0]
    (folder / "options.json").write_text('{"cores": 4}')
    assert failures(folder, "--options", folder / "options.json") == []


@pytest.mark.parametrize("text", ["7", "{", "[1]"])
def test_options_that_are_no_object(folder: Path, text: str) -> None:
    (folder / "options.json").write_text(text)
    done = check(folder, "--options", folder / "options.json")
    assert (done.returncode, "Traceback" in done.stderr) == (os.EX_DATAERR, False)


def test_a_schema_without_a_sample_is_said_not_guessed(folder: Path) -> None:
    impossible = {"type": "string", "pattern": "^a$", "minLength": 2}
    (folder / SCHEMA).write_text(json.dumps({"properties": {"x": impossible}, "required": ["x"]}))
    found = [(kind, text) for kind, subject, text in findings(folder) if subject == Subject.RENDERING]
    assert {kind for kind, _ in found} == {Kind.UNKNOWN}
    assert "'x'" in found[0][1]


def test_a_schema_that_leads_nowhere_is_found(folder: Path) -> None:
    (folder / SCHEMA).write_text(json.dumps({"properties": {"x": {"$ref": "#/$defs/absent"}}}))
    [text] = failures(folder)
    assert SCHEMA in text
    assert "/$defs/absent" in text


def test_a_pattern_that_takes_for_ever_is_ended(folder: Path) -> None:
    slow = {"type": "string", "pattern": "^(x+x+)+y$", "default": "x" * 60}
    (folder / SCHEMA).write_text(json.dumps({"properties": {"x": slow}}))
    [text] = failures(folder)
    assert SCHEMA in text
    assert "simplify its patterns" in text


def test_the_folder_may_be_the_current_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "part.j2").write_text(ENGINE)
    (folder / TEMPLATE).write_text("{% include 'part.j2' %}")
    monkeypatch.chdir(folder)
    assert failures(Path()) == []


def test_a_mapper_that_fails_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / "identity_mapping_config.json").write_text(
        json.dumps([{"DATA_TYPE": "external_identity_mapping#1.0.0", "command": ["/bin/false"]}])
    )
    found = findings(folder, "--identity", "ada@site.example")
    [text] = [text for kind, subject, text in found if (kind, subject) == (Kind.WARNING, Subject.MAPPING)]
    assert "/bin/false ended with 1" in text


def test_an_identity_of_any_length_is_none_of_this_site(folder: Path) -> None:
    assert any("None of your identities" in text for text in failures(folder, "--identity", "x" * 5000 + "@b.example"))


def test_the_sites_variables_are_tried(folder: Path) -> None:
    (folder / "user_environment.yaml").write_text("PYTHONHOME: /nowhere\n")
    [text] = failures(folder)
    assert "PYTHONHOME" in text


def test_a_high_assurance_endpoint_has_to_be_encrypted(folder: Path) -> None:
    (folder / TEMPLATE).write_text(ENGINE.replace("Engine,", "Engine, encrypted: false,"))
    assert failures(folder) == []
    (folder / "config.yaml").write_text((folder / "config.yaml").read_text() + "\nhigh_assurance: true\n")
    assert any("encrypted" in text for text in failures(folder))


def test_a_provider_of_a_cloud_is_not_made(folder: Path) -> None:
    (folder / TEMPLATE).write_text(ENGINE.replace("LocalProvider", "KubernetesProvider"))
    assert failures(folder) == []
    [text] = [text for kind, subject, text in findings(folder) if (kind, subject) == (Kind.UNKNOWN, Subject.ENDPOINT)]
    assert "KubernetesProvider" in text


def test_every_subject_is_reported_and_documented(folder: Path) -> None:
    assert {subject for _, subject, _ in findings(folder)} == set(Subject) == set(MEANINGS)
    (folder / "config.yaml").write_text("no_such_key: 1\n")
    found = findings(folder)
    assert {subject for kind, subject, _ in found if kind != Kind.UNKNOWN} == {Subject.CONFIG}
    assert {subject for _, subject, _ in found} == set(Subject)
    shown = subprocess.run([TWINLOCK, "check", "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert all(f"\n  {subject} " in shown.stdout for subject in Subject)


def test_lines_and_json_say_the_same(folder: Path) -> None:
    (folder / TEMPLATE).write_text("engine: {type: NoSuchEngine}\n")
    lines = check(folder)
    whole = check(folder, "--json")
    assert (lines.returncode, whole.returncode) == (os.EX_CONFIG, os.EX_CONFIG)
    found = json.loads(whole.stdout)
    assert (found["folder"], found["failed"]) == (str(folder), True)
    shown = {"ok": "ok", "warning": "warning", "failure": "FAIL", "not looked at": "not looked at"}
    assert [line.partition("  ")[0] for line in lines.stdout.splitlines()] == [
        shown[row["kind"]] for row in found["findings"]
    ]


def test_warnings_alone_are_no_failure(folder: Path) -> None:
    done = check(folder)
    assert done.returncode == 0
    warned = [line for line in done.stdout.splitlines() if line.startswith("warning")]
    assert any("sample" in line for line in warned)
    assert any("no login" in line for line in warned)


def identity(folder: Path, username: str) -> Path:
    """A file with an identity document."""
    path = folder / f"{username}.json"
    path.write_text(json.dumps(ADA | {"username": username}))
    return path


def test_given_identities_are_mapped(folder: Path, tmp_path: Path) -> None:
    own = pwd.getpwuid(1).pw_name
    words: list[str | Path] = [
        word for name in (own, "no-such-account") for word in ("--identity", identity(folder, f"{name}@example.org"))
    ]
    words += ["--identity", identity(folder, "ada@elsewhere.org"), "--identity", f"{own}@example.org"]
    (tmp_path / "spawner.toml").write_text("system_uids = []\n")
    words += ["--policy", tmp_path / "spawner.toml"]
    found = [(kind, text) for kind, subject, text in findings(folder, *words) if subject == Subject.IDENTITY]
    assert [kind for kind, _ in found] == [Kind.OK, Kind.FAILURE, Kind.FAILURE, Kind.OK]
    assert f"is the account {own}, by mapper 0, mapping 0" in found[0][1]
    assert "doesn't exist on this host" in found[1][1]
    assert "ada@elsewhere.org" in found[2][1]


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("system_uids = [[2, 9], [1, 1]]", "system_uids: its uid, 1, is in one of the ranges"),
        ("min_uid = 2", "system_uids: its uid, 1, is in one of the ranges"),
        ("min_uid = 1", ""),
        ("min_uid = 0", ""),
        ("min_uid = -1", "system_uids: its uid, 1, is in one of the ranges"),
        ("system_uids = [[2, 9]]", ""),
        ("system_uids = [1]", "system_uids: its uid, 1, is in one of the ranges"),
        ('system_uids = []\ndeny_groups = ["no-such-group", "daemon"]', "deny_groups: it is in daemon"),
        ('system_uids = []\nbroker_user = "daemon"', "broker_user: it is the broker's own account"),
        ('system_uids = []\nbroker_user = "no-such-account"', ""),
        ('system_uids = []\ndeny_users = ["daemon"]', "deny_users names it"),
        ('system_uids = []\nallow_groups = ["no-such-group", "bin"]', "it is in none of no-such-group, bin"),
        ('system_uids = []\nallowed_shells = ["/bin/zsh"]', "allowed_shells doesn't name '/usr/sbin/nologin'"),
        ('system_uids = []\nallowed_shells = ["/usr/sbin/nologin"]\nallow_groups = ["daemon"]', ""),
        ('system_uids = []\ndeny_users = [1]\nallow_groups = "daemon"', ""),
        ("", "system_uids: its uid, 1, is in one of the ranges"),
    ],
)
def test_whom_the_policy_keeps_out_is_found(folder: Path, tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "spawner.toml"
    path.write_text(f"{line}\n")
    found = findings(folder, "--policy", path, "--identity", "daemon@example.org")
    [(kind, text)] = [(kind, text) for kind, subject, text in found if subject == Subject.IDENTITY]
    assert "is the account daemon, by mapper 0" in text
    assert kind == (Kind.FAILURE if reason else Kind.OK)
    assert reason in text


def test_the_brokers_own_account_is_nobodys(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "spawner.toml"
    path.write_text('broker_user = "daemon"\nsystem_uids = []\n')
    [text] = [
        text for text in failures(folder, "--policy", path, "--identity", "daemon@example.org") if "daemon@" in text
    ]
    assert "broker_user" in text


@pytest.mark.cases(2)
@pytest.mark.system
@pytest.mark.parametrize(
    ("group", "policy", "kind", "words"),
    [
        ("sudo", "", Kind.FAILURE, "keeps out: deny_groups: it is in sudo"),
        ("daemon", 'broker_user = "daemon"', Kind.FAILURE, "keeps out: broker_user: it is in the broker's own group"),
        ("sudo", 'deny_groups = ["daemon"]', Kind.WARNING, "it is in sudo, which is as good as root"),
        ("adm", "", Kind.WARNING, "it is in adm, so its tasks can read the host's logs"),
        ("video", "", Kind.OK, "is the account"),
    ],
)
def test_groups_that_give_more_than_most_people_have_are_told_of(
    folder: Path, tmp_path: Path, group: str, policy: str, kind: Kind, words: str
) -> None:
    path = tmp_path / "spawner.toml"
    path.write_text(f"{policy}\n")
    with throw_away(f"twl-member{os.getpid()}") as account:
        change_accounts("usermod", "--append", "--groups", group, account.pw_name)
        found = findings(folder, "--policy", path, "--identity", f"{account.pw_name}@example.org")
    [(told, text)] = [(told, text) for told, subject, text in found if subject == Subject.IDENTITY]
    assert (told, words in text) == (kind, True)


def test_the_spawners_defaults_are_known() -> None:
    assert {key: getattr(Policy, key) for key in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(("mode", "warned"), [(0o644, True), (0o640, False)])
def test_an_environment_that_everybody_can_read_is_a_warning(folder: Path, mode: int, warned: bool) -> None:
    folder.chmod(0o755)
    path = folder / "user_environment.yaml"
    path.write_text("TOKEN: secret\n")
    path.chmod(mode)
    rows = [kind for kind, subject, text in findings(folder) if subject == Subject.FILES and str(path) in text]
    assert rows == [Kind.WARNING] * warned


def test_what_is_odd_in_the_mapping_is_a_warning(folder: Path) -> None:
    mapping = folder / "identity_mapping_config.json"
    mapping.write_text(mapping.read_text().replace("(.*)", "([a-z]+)"))
    warned = [text for kind, subject, text in findings(folder) if (kind, subject) == (Kind.WARNING, Subject.MAPPING)]
    assert any("stand for themselves" in text for text in warned)
    assert failures(folder) == []


def policy(path: Path, **values: str) -> Path:
    """A policy with these texts beside what it has to have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    broker = "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
    own = {"broker_user": broker, "socket": f"{path}.sock", "audit_log": f"{path}.log"}
    lines = [f'{key} = "{text}"\n' for key, text in (own | values).items()]
    program = Path(sys.executable).with_name("twinlock-endpoint")
    path.write_text("".join(lines) + f'allow_groups = ["daemon"]\n[programs]\nendpoint = ["{program}"]\n')
    return path


@pytest.mark.parametrize("key", ["socket", "cgroup", "audit_log"])
def test_two_spawners_share_nothing(tmp_path: Path, key: str) -> None:
    first = policy(tmp_path / "spawner.toml")
    second = policy(tmp_path / "instances/gpu/spawner.toml")
    assert [found for path in (first, second) for found in look(path) if found.kind is Kind.FAILURE] == []
    for path in (first, second):
        policy(path, **{key: f"{tmp_path}/shared"})
    for path, other in ((first, second), (second, first)):
        [text] = [found.text for found in look(path) if str(other) in found.text]
        assert f"{key} is {tmp_path}/shared" in text


def test_what_the_spawner_warns_about_is_a_warning(tmp_path: Path) -> None:
    path = policy(tmp_path / "spawner.toml")
    path.write_text('deny_users = ["no-such-account"]\n' + path.read_text())
    [text] = [found.text for found in look(path) if (found.kind, found.subject) == (Kind.WARNING, Subject.POLICY)]
    assert "no-such-account" in text


def test_a_second_policy_in_the_same_folder_is_a_warning(tmp_path: Path) -> None:
    """It may be a copy that is kept."""
    path, copy = policy(tmp_path / "spawner.toml"), tmp_path / "spawner-before.toml"
    copy.write_text(path.read_text())
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    warned = [found.text for found in look(path) if found.kind is Kind.WARNING]
    assert [str(copy) in text for text in warned] == [True, True]


def test_an_instance_needs_the_cgroup_of_its_unit(tmp_path: Path) -> None:
    [warned] = [
        found.text for found in look(policy(tmp_path / "instances/gpu/spawner.toml")) if found.kind is Kind.WARNING
    ]
    assert "twinlock-spawner@gpu.service" in warned


def look(path: Path) -> list[Finding]:
    """What is found about the policy."""
    return list(check_policy(path, "endpoint"))


def program(folder: Path, text: str) -> list[str]:
    """A program that stands where the endpoint's does."""
    path = folder / "twinlock-endpoint"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    folder.chmod(0o755)
    return [str(path)]


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can enter: each start of pytest closes those of all others to them."""
    with tempfile.TemporaryDirectory(prefix="twl-", dir="/var/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.thorough
def test_a_loader_that_hangs_is_ended(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "LIMIT", 20.0)
    argv = program(place, "echo '{}'; exec sleep 600")
    answers = loader.ask(argv, ["a", "b"], {}, audited=False)
    assert answers[0] == loader.Answer()
    assert "took more than 20 s" in answers[1].unknown


def test_a_loader_is_ended_with_what_it_leaves_and_no_other(place: Path, killed_groups: list[bool]) -> None:
    argv = program(place, """sleep 600 > /dev/null 2>&1 & printf '{"wrong": "%s"}\\n' $!""")
    [answer] = loader.ask(argv, ["a"], {}, audited=False)
    assert killed_groups == [True]
    assert gone(int(answer.wrong))


def test_a_loader_has_none_of_the_callers_variables(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "hush")
    argv = program(place, """printf '{"wrong": "%s %s"}\\n' "$(env | grep -c hush)" "$(id -u)" """)
    [answer] = loader.ask(argv, ["a"], {}, audited=False)
    assert answer.wrong == f"0 {pwd.getpwnam('nobody').pw_uid if os.geteuid() == 0 else os.getuid()}"


@pytest.mark.parametrize(
    ("text", "wrong", "unknown"),
    [("exit 100", "", "another version"), ("echo oops >&2; exit 78", "oops", ""), ("echo 7", "", "isn't an answer")],
)
def test_a_loader_that_gives_no_answer(place: Path, text: str, wrong: str, unknown: str) -> None:
    [answer] = loader.ask(program(place, text), ["a"], {}, audited=False)
    assert wrong in answer.wrong
    assert unknown in answer.unknown
    assert bool(answer.wrong) != bool(answer.unknown)


def test_a_program_that_other_accounts_cannot_run(place: Path) -> None:
    if os.geteuid():
        pytest.skip("needs root")
    argv = program(place, "exit 0")
    place.chmod(0o700)
    [answer] = loader.ask(argv, ["a"], {}, audited=False)
    assert "Permission denied" in answer.wrong


def test_who_waits_is_told_what_for(folder: Path, place: Path) -> None:
    argv = program(place, "sleep 5; yes '{}' | head -n 100")
    path = policy(place / "policy" / "spawner.toml")
    path.write_text(path.read_text().partition("[programs]")[0] + f"[programs]\nendpoint = {json.dumps(argv)}\n")
    done = check(folder, "--policy", path)
    assert re.search(rf"\.\.\. {re.escape(argv[0])} loads \d+ configurations", done.stderr)
    assert "FAIL" not in done.stdout


DEFINED: dict[str, Any] = {
    "$defs": {"n": {"type": "integer", "minimum": 3}, "with/slash": {"const": "k"}, "a b": {"const": "m"}}
}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string", "pattern": "^[0-9]{2}:[0-9]{2}:[0-9]{2}$"}, None),
        ({"type": "string", "pattern": "^proj-[A-Z]{3}[0-9]+$"}, None),
        ({"type": "string", "pattern": r"^(cpu|gpu)\.\d+[^a]\w?$"}, None),
        ({"type": "string", "minLength": 9, "maxLength": 9}, None),
        ({"$ref": "#/$defs/n"}, 3),
        ({"anyOf": [{"const": "x"}]}, "x"),
        ({"default": "long", "enum": ["short", "long"]}, "long"),
        ({"type": ["null", "string"]}, None),
        ({"type": "array", "items": {"type": "string", "pattern": "^a+$"}, "minItems": 2}, None),
        ({"type": "object", "required": ["q"], "properties": {"q": {"exclusiveMinimum": 4, "maximum": 5}}}, {"q": 5}),
        ({"type": "integer", "multipleOf": 7, "minimum": 8}, 14),
        ({"type": "integer", "maximum": -5}, -5),
        ({"minimum": 4}, 4),
        ({"$ref": "#/$defs/with~1slash"}, "k"),
        ({"$ref": "#/$defs/a%20b"}, "m"),
        (
            {"type": "array", "prefixItems": [{"const": 1}, {"const": 2}], "items": {"const": 3}, "minItems": 3},
            [1, 2, 3],
        ),
    ],
)
def test_a_sample_fits_its_schema(schema: dict[str, Any], expected: object) -> None:
    """Where only one value is to be expected, it is that one; `value` itself lets nothing else through."""
    found = value(schema, DEFINED | {"properties": {"x": schema}})
    assert expected is None or found == expected


def test_a_list_of_an_older_schema_has_its_own_schema_for_each_item() -> None:
    schema = {"type": "array", "items": [{"const": 1}, {"const": 2}], "minItems": 2}
    assert value(schema, {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"x": schema}}) == [1, 2]


@pytest.mark.parametrize("schema", [{"not": {}}, {"type": "string", "pattern": "^a$", "minLength": 2}, {"enum": []}])
def test_a_schema_that_allows_nothing_has_no_sample(schema: dict[str, Any]) -> None:
    with pytest.raises(NoSample):
        value(schema, {})
