"""`twinlock`, as an administrator runs it: each subcommand as a process, with what it prints and how it exits."""

import importlib.metadata
import json
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from broker_rig import NO_POLICY

TWINLOCK = Path(sys.executable).with_name("twinlock")
ADA = {"id": "7b1f2f6e-0000-4000-8000-000000000001", "username": "ada@example.org"}


def run(*words: str | Path, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    """The command's outcome."""
    return subprocess.run([TWINLOCK, *words], input=stdin, capture_output=True, text=True, timeout=300, check=False)


SETTING_UP = ("configure", "check", "render", "map", "login", "logout", "whoami", "list", "delete", "verified")
RUNNING = ("status", "top", "stop", "block", "unblock", "drain", "resume")
COMMANDS = (*SETTING_UP, *RUNNING)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as `configure` makes it."""
    made = run("configure", "--display-name", "The cluster", tmp_path / "endpoint")
    assert (made.returncode, made.stderr) == (0, "")
    return tmp_path / "endpoint"


def test_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"twinlock {importlib.metadata.version('twinlock')}\n")


def test_help_names_every_subcommand() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert all(re.search(rf"\n    {name}\s", done.stdout) for name in COMMANDS)


def test_a_command_starts_without_what_others_stand_on() -> None:
    argv = [sys.executable, "-X", "importtime", "-m", "twinlock_broker.commands", "block", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert "twinlock_broker.commands.ask" in done.stderr
    assert not re.search("globus_sdk|globus_identity_mapping|jinja2|textual", done.stderr)


@pytest.mark.cases(2)
@pytest.mark.parametrize("words", [(), ("chek",), ("render", "--nonsense"), ("map", "-"), ("render",)])
def test_usage_errors_exit_with_100(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 100
    assert "twinlock" in done.stderr


def test_what_configure_makes_can_be_served(folder: Path) -> None:
    checked = run("check", *NO_POLICY, folder)
    assert checked.returncode == 0, checked.stdout
    assert "FAIL" not in checked.stdout
    assert yaml.safe_load((folder / "config.yaml").read_text())["display_name"] == "The cluster"


def test_what_configure_makes_is_for_root_and_the_brokers_account_alone(tmp_path: Path) -> None:
    policy = tmp_path / "spawner.toml"
    policy.write_text('broker_user = "daemon"\n')
    assert run("configure", "--policy", policy, tmp_path / "endpoint").returncode == 0
    paths = [tmp_path / "endpoint", *(tmp_path / "endpoint").iterdir()]
    assert len(paths) == 6
    modes = {(path.is_dir(), path.owner(), path.group(), f"{path.stat().st_mode & 0o777:o}") for path in paths}
    if os.geteuid() == 0:
        assert modes == {(True, "root", "daemon", "750"), (False, "root", "daemon", "640")}
    else:
        own = pwd.getpwuid(os.getuid()).pw_name
        assert {(name, mode) for _, name, _, mode in modes} == {(own, "700"), (own, "600")}


def test_an_account_that_may_not_read_the_folder_is_told_so(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    argv: list[str | Path] = [
        "setpriv",
        "--reuid=nobody",
        "--regid=nogroup",
        "--clear-groups",
        TWINLOCK,
        "render",
        "-e",
        folder,
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        os.EX_NOINPUT,
        [f"twinlock: {folder}: this account may not read it; run the command as root, or as the broker's account"],
    )


def test_configure_before_the_broker_has_an_account(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    policy = tmp_path / "spawner.toml"
    policy.write_text('broker_user = "no-such-account"\n')
    done = run("configure", "--policy", policy, tmp_path / "endpoint")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"chgrp -R no-such-account {tmp_path}/endpoint" in done.stdout
    assert all(path.stat().st_mode & 0o007 == 0 for path in (tmp_path / "endpoint").iterdir())


def test_configure_overwrites_nothing(folder: Path) -> None:
    before = (folder / "config.yaml").read_text()
    done = run("configure", folder)
    assert (done.returncode, "File exists" in done.stderr) == (os.EX_CANTCREAT, True)
    assert (folder / "config.yaml").read_text() == before


def test_configure_refuses_a_value_of_another_kind(tmp_path: Path) -> None:
    done = run("configure", "--auth-policy", "mine", tmp_path / "endpoint")
    assert (done.returncode, "authentication_policy has to be a uuid" in done.stderr) == (os.EX_CONFIG, True)
    assert not (tmp_path / "endpoint").exists()


def test_check_says_all_that_would_fail(folder: Path) -> None:
    (folder / "config.yaml").write_text("heartbeat_perio: 5\npublic: maybe\n")
    done = run("check", *NO_POLICY, folder)
    assert done.returncode == os.EX_CONFIG
    failures = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert "did you mean 'heartbeat_period'" in failures[0]
    assert "public has to be true or false" in failures[1]


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("user_config_schema.json", '{"type": 7}', "user_config_schema.json"),
        ("user_config_template.yaml.j2", "engine: {type: {{ x", "the options"),
        ("user_config_template.yaml.j2", "a: 1\n", "has no engine"),
        ("user_environment.yaml", "1a: x\n", "environment variable"),
        ("identity_mapping_config.json", "[{}]", "identity mapping"),
        ("endpoint.json", "{}", "endpoint_id"),
    ],
)
def test_check_names_the_broken_file(folder: Path, name: str, text: str, words: str) -> None:
    (folder / name).write_text(text)
    done = run("check", *NO_POLICY, folder)
    assert done.returncode == os.EX_CONFIG
    assert words in next(line for line in done.stdout.splitlines() if line.startswith("FAIL"))


def test_check_reads_the_spawners_policy(folder: Path) -> None:
    policy = folder / "spawner.toml"
    head = f'broker_user = "{pwd.getpwuid(os.getuid()).pw_name}"\nsocket = "{folder}/s"\naudit_log = "{folder}/a"\n'
    policy.write_text(head + '[programs]\nother = ["/bin/true"]\n')
    done = run("check", "--policy", policy, folder)
    assert done.returncode == os.EX_CONFIG
    assert "programs has no 'endpoint'" in done.stdout
    policy.write_text(head + '[programs]\nendpoint = ["/bin/true"]\n')
    assert run("check", "--policy", policy, folder).returncode == 0
    policy.write_text("min_uid = 0.5\n" + head + '[programs]\nendpoint = ["/bin/true"]\n')
    assert "min_uid" in run("check", "--policy", policy, folder).stdout


def test_render_shows_what_options_become(folder: Path) -> None:
    done = run("render", "-e", folder, "-o", "-", stdin='{"worker_init": "echo \\"hi\\"\\nmodule: x", "workers": 3}')
    assert (done.returncode, done.stderr) == (0, "")
    engine = yaml.safe_load(done.stdout)["engine"]
    assert engine["provider"]["worker_init"] == 'echo "hi"\nmodule: x'
    assert engine["max_workers_per_node"] == 3


def test_render_says_why_options_are_refused(folder: Path) -> None:
    done = run("render", "-e", folder, "-o", "-", stdin='{"workers": 1000}')
    assert (done.returncode, "schema" in done.stderr) == (os.EX_DATAERR, True)
    done = run("render", "-e", folder, "-o", "-", stdin="[1]")
    assert (done.returncode, "has to be a JSON object" in done.stderr) == (os.EX_DATAERR, True)


def test_render_with_the_reserved_variables(tmp_path: Path) -> None:
    files: dict[str, Any] = {
        "mapped": {"local": {"uname": "grace", "uid": 77}, "globus": {"id": ADA["id"]}},
        "runtime": {"globus_compute_sdk_version": "4.19.0"},
        "parent": {"heartbeat_period": 7},
    }
    for name, value in files.items():
        (tmp_path / name).write_text(json.dumps(value))
    template = (
        "engine: {type: X}\nu: {{ _GC.mapped_identity.local.uname }}-{{ mapped_identity.local.uid }}\n"
        "g: {{ _GC.mapped_identity.globus.id }}\nv: {{ _GC.user_runtime.globus_compute_sdk_version }}\n"
        "h: {{ _GC.parent_config.heartbeat_period }}\n"
    )
    (tmp_path / "t.j2").write_text(template)
    words = ("--mapped-identity", tmp_path / "mapped", "--user-runtime", tmp_path / "runtime")
    done = run("render", "-t", tmp_path / "t.j2", *words, "--parent-config", tmp_path / "parent")
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout) == {
        "engine": {"type": "X"},
        "u": "grace-77",
        "g": ADA["id"],
        "v": "4.19.0",
        "h": 7,
    }


@pytest.mark.parametrize("words", [("-e",), ("-t",)])
def test_a_template_may_ask_for_pam_and_the_source_of_the_configuration(folder: Path, words: tuple[str]) -> None:
    template = folder / "user_config_template.yaml.j2"
    template.write_text(
        "engine: {type: ThreadPoolEngine}\ndebug: {{ _GC.parent_config.pam.enable }}\n"
        "display_name: {{ _GC.parent_config.source_content is string }}-\n"
        "heartbeat_period: {{ _GC.parent_config.heartbeat_period }}\n"
    )
    assert run("check", *NO_POLICY, folder).returncode == 0
    done = run("render", *words, folder if words == ("-e",) else template)
    assert yaml.safe_load(done.stdout) == {
        "engine": {"type": "ThreadPoolEngine"},
        "debug": False,
        "display_name": "True-",
        "heartbeat_period": 30,
    }


def test_a_template_with_a_syntax_error_is_shown_with_its_line(folder: Path) -> None:
    template = folder / "user_config_template.yaml.j2"
    template.write_text("engine:\n  type: X\n  n: {{ n }\n")
    place = f"{template}, line 3: unexpected '}}': n: {{{{ n }}"
    checked = run("check", *NO_POLICY, folder)
    assert (checked.returncode, place in checked.stdout) == (os.EX_CONFIG, True), checked.stdout
    for words in (("-e", folder), ("-t", template)):
        done = run("render", *words)
        assert (done.returncode, place in done.stderr) == (os.EX_DATAERR, True), done.stderr


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("mapped", "words"),
    [
        ({"local_user_record": {"pw_name": "grace"}, "matched_identity": ADA["id"]}, ["local_user_record", "matched"]),
        ({"local": {"unam": "grace"}}, ["'local.unam'", "did you mean 'local.uname'"]),
        ({"local": {"uname": "grace", "pw_uid": 77}}, ["'local.pw_uid'", "did you mean 'local.uid'"]),
        ({"uname": "grace", "uid": 77}, ["'uname', 'uid'", "did you mean 'local.uname'"]),
        ({"globus": {"identity": ADA["id"]}}, ["'globus.identity'", "globus.id"]),
        ({"local": ["grace"]}, ["'local'"]),
        ({"locl": {}}, ["'locl'"]),
        ({"globus": ADA["id"]}, ["'globus'"]),
        ({"local": {"uid": "77"}}, ["local.uid has to be a number"]),
        ({"local": {"groups": ["users"]}}, ["local.groups has to be a list of numbers"]),
        ({"local": {"dir": None}}, ["local.dir has to be a text"]),
    ],
)
def test_render_refuses_a_mapped_identity_that_it_would_ignore(
    folder: Path, mapped: dict[str, Any], words: list[str]
) -> None:
    done = run("render", "-e", folder, "--mapped-identity", "-", stdin=json.dumps(mapped))
    assert (done.returncode, done.stdout) == (os.EX_DATAERR, "")
    assert all(word in done.stderr for word in words), done.stderr


def test_render_refuses_a_parent_config_that_the_broker_would_refuse(folder: Path) -> None:
    done = run("render", "-e", folder, "--parent-config", "-", stdin="heartbeat_perio: 7\n")
    assert (done.returncode, done.stdout) == (os.EX_CONFIG, "")
    assert "did you mean 'heartbeat_period'" in done.stderr


def test_map_says_who_and_by_which_rule(folder: Path) -> None:
    done = run("map", "-e", folder, "--json", "-", stdin=json.dumps([ADA | {"username": "x@elsewhere.org"}, ADA]))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"account": "ada", "identity": ADA["id"], "mapper": 0, "mapping": 0}
    assert "no account 'ada' on this host" in done.stderr
    mapping = folder / "identity_mapping_config.json"
    documents = json.loads(mapping.read_text())
    documents[0]["mappings"].insert(0, {"source": "{email}", "match": "never", "output": "root"})
    mapping.write_text(json.dumps(documents))
    said = run("map", "-e", folder, "-", stdin=json.dumps(ADA)).stdout
    assert said.startswith(f"ada\nby identity {ADA['id']}, mapper 0, mapping 1: {{username}} matches ")


def test_a_single_mapper_needs_no_list(folder: Path) -> None:
    mapping = folder / "identity_mapping_config.json"
    mapping.write_text(json.dumps(json.loads(mapping.read_text())[0]))
    said = run("map", "-e", folder, "-", stdin=json.dumps(ADA)).stdout
    assert said.startswith(f"ada\nby identity {ADA['id']}, mapper 0, mapping 0: ")
    assert run("check", *NO_POLICY, folder).returncode == 0


def test_map_takes_a_username_alone(folder: Path) -> None:
    assert run("map", "-e", folder, "ada@example.org").stdout.startswith("ada\n")
    assert run("map", "-e", folder, "ada@example.com").returncode == os.EX_NOUSER


def test_map_of_nobody_exits_with_67(folder: Path) -> None:
    done = run("map", "-e", folder, "-", stdin=json.dumps(ADA | {"username": "ada@example.com"}))
    assert (done.returncode, done.stdout) == (os.EX_NOUSER, "")
    assert "ada@example.com" in done.stderr


@pytest.mark.cases(2)
@pytest.mark.parametrize("text", ["", "7", "[[]]", '{"id": 7}', '{"username": "x"}'])
def test_map_of_no_identity(folder: Path, text: str) -> None:
    assert run("map", "-e", folder, "-", stdin=text).returncode == os.EX_DATAERR


def test_whoami_without_a_login(folder: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GLOBUS_COMPUTE_CLIENT")}
    argv = [str(TWINLOCK), "whoami", str(folder)]
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "GLOBUS_COMPUTE_CLIENT_ID" in done.stderr) == (os.EX_NOPERM, True)


def test_list_shows_the_folders_with_their_uuids(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run("configure", tmp_path / name)
    (tmp_path / "two" / "endpoint.json").write_text(json.dumps({"endpoint_id": ADA["id"]}))
    (tmp_path / "no-endpoint").mkdir()
    done = run("list", tmp_path)
    assert done.returncode == 0
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["-", str(tmp_path / "one")],
        [ADA["id"], str(tmp_path / "two")],
    ]
    missing = run("list", tmp_path / "nowhere")
    assert (missing.returncode, "nowhere" in missing.stderr) == (os.EX_NOINPUT, True)


@pytest.mark.cases(4)
@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help_that_ends_with_its_exit_codes(name: str) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert "exit codes:" in done.stdout
