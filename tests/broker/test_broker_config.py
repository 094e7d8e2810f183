"""config.yaml and the folder around it: what is read, what is refused, and with which exit code."""

import json
import os
from pathlib import Path

import pytest
from broker_rig import MANAGER, UEP, make_folder
from twinlock_broker.config.folder import open_folder
from twinlock_broker.config.keys import BROKER_KEYS, MANAGER_KEYS, describe
from twinlock_broker.config.settings import settle
from twinlock_broker.config.state import remember
from twinlock_broker.errors import CommandError, Fatal


def test_every_default_is_the_peers(tmp_path: Path) -> None:
    settings = make_folder(tmp_path / "ep").settings
    assert settings["heartbeat_period"] == 30
    assert settings["mu_child_ep_grace_period_s"] == 30
    assert settings["public"] is False
    assert settings["allowed_functions"] is None


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ("heartbeat_perio: 30", ["'heartbeat_perio'", "did you mean 'heartbeat_period'"]),
        ("zzzzz: 1", ["'zzzzz'", "known are", "amqp_port"]),
        ("heartbeat_period: soon", ["heartbeat_period", "a number", "in s", "'soon'"]),
        ("heartbeat_period: true", ["heartbeat_period", "a number"]),
        ("amqp_port: 0", ["amqp_port", "a port number"]),
        ("admins: [nobody]", ["admins", "a list of uuids"]),
        ("public: maybe", ["public", "true or false"]),
        ("public: 2", ["public", "true or false"]),
        ("amqp_port: https", ["amqp_port", "a port number"]),
        ("pam: {enabled: true}", ["pam", "enable"]),
        ("- a\n- list", ["has to be a YAML mapping"]),
        ("a: [", ["not valid YAML"]),
        ("engine: {type: ThreadPoolEngine}", ["move the 'engine' block", "user_config_template.yaml.j2"]),
        ("high_assurance: [true]", ["high_assurance", "true or false"]),
        ("pam: {enable: true}", ["pam.enable", "pam_service", "spawner"]),
        ("pam: {enable: 'yes'}", ["pam.enable", "pam_service", "spawner"]),
        ("pam: {}", ["pam.enable", "pam_service", "spawner"]),
    ],
)
def test_a_bad_config_ends_with_78_and_names_the_key(tmp_path: Path, config: str, words: list[str]) -> None:
    with pytest.raises(Fatal) as ended:
        make_folder(tmp_path / "ep", config)
    assert ended.value.status == os.EX_CONFIG
    for word in words:
        assert word in str(ended.value)


@pytest.mark.parametrize("key", ["multi_user", "force_mu_allow_same_user", "detach_endpoint", "funcx_service_address"])
def test_a_key_that_went_away_may_be_deleted(tmp_path: Path, key: str) -> None:
    with pytest.raises(Fatal, match=rf"config\.yaml: {key} is no longer used: .*; delete it$") as ended:
        make_folder(tmp_path / "ep", f"{key}: true")
    assert ended.value.status == os.EX_CONFIG


def test_a_key_of_user_endpoints_has_its_place_in_the_template(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match=r"idle_heartbeats_soft .* move it into user_config_template\.yaml\.j2"):
        make_folder(tmp_path / "ep", "idle_heartbeats_soft: 10")


@pytest.mark.parametrize(
    "key",
    [
        "subscription_id",
        "authentication_policy",
        "identity_mapping_config_path",
        "user_config_template_path",
        "user_config_schema_path",
        "audit_log_path",
    ],
)
def test_an_empty_text_for_a_uuid_or_a_path_is_none(tmp_path: Path, key: str) -> None:
    folder = make_folder(tmp_path / "ep", f'{key}: ""\nhigh_assurance: true\n')
    assert folder.settings[key] is None
    assert (folder.mapping_path, folder.audit_path) == (None, None)


def test_an_empty_text_for_a_list_is_an_empty_list(tmp_path: Path) -> None:
    settings = make_folder(tmp_path / "ep", 'allowed_functions: ""\nadmins: ""\n').settings
    assert (settings["allowed_functions"], settings["admins"]) == ((), ())


def test_empty_paths_in_the_brokers_own_file_are_the_defaults(tmp_path: Path) -> None:
    (tmp_path / "broker.yaml").write_text('endpoint_dir: /ep\nspawner_socket: ""\nstate_dir: ""\n')
    settings = settle(tmp_path / "broker.yaml", {})
    assert (settings.spawner_socket, settings.state) == (Path("/run/twinlock/spawner.sock"), Path("/ep"))


def test_templates_find_the_configuration_as_the_peers_have_it(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ep", "# ours\ndebug: true\n")
    assert folder.parent_config["pam"] == {"enable": False, "service_name": "globus-compute-endpoint"}
    assert folder.parent_config["source_content"] == "# ours\ndebug: true\n"
    assert folder.parent_config["debug"] is True
    other = make_folder(tmp_path / "other", "pam: {enable: false, service_name: cluster}\n")
    assert other.parent_config["pam"] == {"enable": False, "service_name": "cluster"}


def test_values_are_read_as_the_peer_reads_them(tmp_path: Path) -> None:
    config = (
        f"display_name: None\nheartbeat_period: 1\nadmins: [{MANAGER.upper()}]\npam: {{enable: false}}\nemail: null"
    )
    settings = make_folder(tmp_path / "ep", config).settings
    assert settings["display_name"] is None
    assert settings["heartbeat_period"] == 5
    assert settings["admins"] == (MANAGER,)
    assert settings["pam"] == {"enable": False, "service_name": ""}
    assert settings["email"] is None


def test_code_as_configuration_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="configuration by code") as ended:
        make_folder(tmp_path / "ep", config__py="config = None")
    assert ended.value.status == os.EX_CONFIG


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="no such folder") as ended:
        open_folder(tmp_path / "ep")
    assert ended.value.status == os.EX_NOINPUT


def test_paths_are_relative_to_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ep", "identity_mapping_config_path: map.json", map__json="[]")
    assert folder.mapping_path == tmp_path / "ep" / "map.json"


@pytest.mark.parametrize(
    "key", ["identity_mapping_config_path", "user_config_template_path", "user_config_schema_path"]
)
def test_a_file_that_the_config_names_has_to_be_there(tmp_path: Path, key: str) -> None:
    with pytest.raises(Fatal, match="gone") as ended:
        make_folder(tmp_path / "ep", f"{key}: gone")
    assert ended.value.status == os.EX_NOINPUT


def test_a_schema_that_goes_while_it_is_needed_lets_nobody_in(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ep", "user_config_schema_path: s.json", s__json="{}")
    (tmp_path / "ep" / "s.json").unlink()
    with pytest.raises(CommandError):
        folder.read_site()


def test_the_template_may_lack_its_j2(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ep", template="with")
    folder.template_path.rename(tmp_path / "ep" / "user_config_template.yaml")
    assert folder.read_site().template == "with"


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("user_config_schema__json", "{", "Expecting"),
        ("user_config_schema__json", '{"type": "no such type"}', "no such type"),
        ("user_config_schema__json", "[]", "JSON object"),
        ("user_environment__yaml", "a: [", "line 1"),
        ("user_environment__yaml", "[a]", "YAML mapping"),
        ("user_environment__yaml", "BASH_FUNC x: 1", "BASH_FUNC x"),
    ],
)
def test_a_bad_file_of_the_site(tmp_path: Path, name: str, text: str, word: str) -> None:
    with pytest.raises(Fatal) as ended:
        make_folder(tmp_path / "ep", **{name: text})
    assert ended.value.status == os.EX_CONFIG
    assert name.replace("__", ".") in str(ended.value)
    assert word in str(ended.value)


def test_a_file_that_breaks_later_is_an_error_of_the_command_and_hides_its_path(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ep")
    folder.template_path.unlink()
    with pytest.raises(CommandError) as failed:
        folder.read_site()
    assert str(tmp_path) not in failed.value.text
    assert str(tmp_path) in failed.value.detail


def test_environment_values_are_texts(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ep", user_environment__yaml="OMP_NUM_THREADS: 4\nLD_X: a")
    assert folder.read_site().environment == {"OMP_NUM_THREADS": "4", "LD_X": "a"}


def test_the_endpoints_uuid_comes_from_the_state_before_the_folder(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "ep", endpoint__json=json.dumps({"endpoint_id": UEP}))
    assert folder.endpoint_id(tmp_path) == UEP
    remember(tmp_path, MANAGER)
    assert folder.endpoint_id(tmp_path) == MANAGER
    (tmp_path / "endpoint.json").write_text("{}")
    with pytest.raises(Fatal, match=r"endpoint\.json"):
        folder.endpoint_id(tmp_path)


def test_a_state_that_cant_be_written(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="--state") as ended:
        remember(tmp_path / "gone", MANAGER)
    assert ended.value.status == os.EX_CANTCREAT


def test_the_command_line_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/s/one:/s/two")
    config = tmp_path / "broker.yaml"
    config.write_text("endpoint_dir: /ep\nspawner_socket: /a.sock\nprogram: peer")
    settings = settle(config, {"endpoint_dir": None, "spawner_socket": Path("/b.sock"), "state_dir": None})
    assert settings.endpoint_dir == Path("/ep")
    assert settings.spawner_socket == Path("/b.sock")
    assert settings.program == "peer"
    assert settings.state == Path("/s/one")


def test_relative_folders_are_where_the_broker_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = settle(None, {"endpoint_dir": Path("ep"), "state_dir": Path("state"), "runtime_dir": Path("run")})
    found = settings.endpoint_dir, settings.state, settings.runtime
    assert found == (tmp_path / "ep", tmp_path / "state", tmp_path / "run")


def test_an_endpoint_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(Fatal, match="--endpoint-dir") as ended:
        settle(None, {})
    assert ended.value.status == os.EX_USAGE
    with pytest.raises(Fatal) as ended:
        settle(tmp_path / "gone.yaml", {})
    assert ended.value.status == os.EX_NOINPUT


@pytest.mark.parametrize("keys", [MANAGER_KEYS, BROKER_KEYS])
def test_the_documentation_has_a_line_for_each_key(keys: tuple[object, ...]) -> None:
    lines = describe(keys).splitlines()  # type: ignore[arg-type]  # both are tuples of Key
    assert len(lines) == len(keys)
    assert all(line.split()[1:] for line in lines)
