"""What is accepted as a configuration, and what is said about the rest."""

from pathlib import Path

import pytest
from twinlock_endpoint.config.configuration import load
from twinlock_endpoint.config.keys import KEYS
from twinlock_endpoint.errors import ConfigError

ENGINE = "engine: {type: ThreadPoolEngine}\n"


def test_the_defaults_of_the_peer() -> None:
    config = load(ENGINE)
    assert (config.heartbeat_period, config.heartbeat_threshold) == (30, 120)
    assert (config.idle_heartbeats_soft, config.idle_heartbeats_hard) == (0, 5760)


def test_each_key_is_read() -> None:
    config = load(
        ENGINE
        + "display_name: Mine\nheartbeat_period: 7.5\nheartbeat_threshold: 90\nidle_heartbeats_soft: 3\n"
        + "idle_heartbeats_hard: 9\nendpoint_setup: a\nendpoint_teardown: b\nlog_dir: /logs\nstdout: o\nstderr: e\n"
        + "amqp_port: 443\ndebug: true\npaths: {endpoint_dir: /dir}\nhigh_assurance: false\nkeep_unused_days: 30\n"
        + "allowed_functions: [6B1F2F6E-0000-0000-0000-000000000001]\n"
    )
    assert (config.display_name, config.heartbeat_period, config.heartbeat_threshold) == ("Mine", 7.5, 90)
    assert (config.idle_heartbeats_soft, config.idle_heartbeats_hard) == (3, 9)
    assert (config.endpoint_setup, config.endpoint_teardown) == ("a", "b")
    assert (config.log_dir, config.stdout, config.stderr) == (Path("/logs"), "o", "e")
    assert (config.amqp_port, config.debug, config.paths) == (443, True, {"endpoint_dir": Path("/dir")})
    assert config.keep_unused_days == 30
    assert config.allowed_functions == frozenset({"6b1f2f6e-0000-0000-0000-000000000001"})


def test_heartbeats_have_a_least_period() -> None:
    assert load(ENGINE + "heartbeat_period: 1").heartbeat_period == 5


def test_silence_is_at_least_two_periods() -> None:
    assert load(ENGINE + "heartbeat_period: 100").heartbeat_threshold == 200


def test_a_name_that_old_agents_wrote_for_none() -> None:
    assert load(ENGINE + "display_name: 'None'").display_name is None


def test_texts_with_numbers_are_as_good_as_numbers() -> None:
    config = load(
        ENGINE + "heartbeat_period: '40'\nidle_heartbeats_soft: '3'\nidle_heartbeats_hard: 9.0\ndebug: 'yes'\n"
    )
    assert (config.heartbeat_period, config.idle_heartbeats_soft, config.idle_heartbeats_hard) == (40, 3, 9)
    assert config.debug is True


@pytest.mark.parametrize("name", sorted(set(KEYS) - {"engine"}))
def test_null_is_the_default(name: str) -> None:
    assert getattr(load(ENGINE + f"{name}: null"), name) == getattr(load(ENGINE), name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("engine: [", "not YAML"),
        ("- a", "not a mapping"),
        ("", "not a mapping"),
        ("display_name: x", "no 'engine'"),
        ("engine: null", "no 'engine'"),
        ("engine: text", "'engine': 'text', which is not a mapping"),
        (ENGINE + "idle_heartbeat_soft: 1", "unknown key 'idle_heartbeat_soft'; did you mean 'idle_heartbeats_soft'?"),
        (ENGINE + "zzz: 1", "unknown key 'zzz'; known are: allowed_functions, "),
        (ENGINE + "1: 1", "unknown key 1"),
        (ENGINE + "debug: 2", "'debug': 2, which is not true or false"),
        (ENGINE + "heartbeat_period: true", "which is not a number of seconds"),
        (ENGINE + "heartbeat_period: .nan", "which is not a number of seconds"),
        (ENGINE + "detach_endpoint: true", "'detach_endpoint', which means nothing any more; leave it out"),
        (ENGINE + "heartbeat_period: often", "which is not a number of seconds"),
        (ENGINE + "idle_heartbeats_hard: 1.5", "which is not a whole number"),
        (ENGINE + "amqp_port: 70000", "which is not a port"),
        (ENGINE + "endpoint_setup: [a]", "which is not a text"),
        (ENGINE + "allowed_functions: [abc]", "which is not a list of function ids"),
        (ENGINE + "paths: {endpoint_logs: x}", "paths.endpoint_logs; did you mean 'endpoint_log'?"),
        (ENGINE + "high_assurance: maybe", "true or false"),
    ],
)
def test_each_fault_is_named(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text)
    assert said in str(caught.value)


def test_a_yaml_error_does_not_repeat_the_text() -> None:
    with pytest.raises(ConfigError) as caught:
        load("password: 'secret\nother: x")
    assert "secret" not in str(caught.value)
    assert "line" in str(caught.value)
