"""Commands: what is taken, and that nothing else gets through or gets loose."""

import copy
import json
import time
from typing import Any

import pytest
from broker_rig import ALICE, MANAGER, UEP, amqp_creds, delivery, message
from hypothesis import given
from hypothesis import strategies as st
from twinlock_broker.compute import command
from twinlock_broker.compute.command import Delivery, StartCommand
from twinlock_broker.errors import CommandError


def go_through(found: Delivery) -> StartCommand:
    """All steps that look at a message."""
    values = command.decode(found)
    credentials = command.credentials(values, None)
    command.check_fresh(found.timestamp, time.time())
    command.check_known(values)
    return command.parse(values, credentials, MANAGER)


def test_a_command_of_the_service() -> None:
    start = go_through(delivery(message()))
    assert start.name == f"uep.{MANAGER}.{UEP}"
    assert start.options == {"account_id": "phys-1"}
    assert start.identities[0]["sub"] == ALICE
    assert start.credentials.amqp.reveal() == amqp_creds()
    assert start.credentials.notices.routing_key == "beats"
    assert start.environment == {
        "GC_USER_PYTHON_VERSION": "3.11.2",
        "GC_USER_SDK_VERSION": "4.19.0",
        "GLOBUS_COMPUTE_ENDPOINT_NAME": start.name,
    }


def test_options_and_runtime_may_be_missing() -> None:
    start = go_through(delivery(message(user_opts=None, user_runtime=None)))
    assert start.options == {}
    assert start.environment == {"GLOBUS_COMPUTE_ENDPOINT_NAME": start.name}


@pytest.mark.parametrize("version", ["1; rm", 3, "", None, "x" * 65, ["3"]])
def test_a_version_that_is_none_is_left_out_of_the_environment(version: Any) -> None:
    runtime = {"python": {"version": version}, "globus_compute_sdk_version": version}
    start = go_through(delivery(message(user_runtime=runtime)))
    assert start.environment.keys() == {"GLOBUS_COMPUTE_ENDPOINT_NAME"}


def test_the_port_of_the_notices_can_be_replaced() -> None:
    for url, other in (
        ("amqps://u:p%40@host:5671/v?x=1", "amqps://u:p%40@host:443/v?x=1"),
        ("amqp://u:p@[::1]/", "amqp://u:p@[::1]:443/"),
        ("amqp://host", "amqp://host:443"),
    ):
        found = command.credentials(message(amqp_creds=amqp_creds(url)), 443)
        assert found.notices.url.reveal() == other


def with_timestamp(timestamp: Any) -> Delivery:
    """A command with this timestamp."""
    return Delivery("application/json", timestamp, json.dumps(message()).encode())


def changed(**top: Any) -> Delivery:
    """A command with other fields at the top."""
    return delivery(message() | top)


def bad() -> dict[str, Delivery]:
    """Messages that are wrong in one thing, all but some sent just now."""
    return {
        "another content type": Delivery("text/plain", round(time.time()), b"{}"),
        "no content type": Delivery(None, round(time.time()), json.dumps(message()).encode()),
        "broken JSON": delivery(b'{"command": '),
        "no UTF-8": delivery(b"\xff\xfe"),
        "deep JSON": delivery(b"[" * 100_000),
        "a huge number": delivery(b'{"a": ' + b"9" * 5000 + b"}"),
        "a list": delivery([1]),
        "a huge message": delivery(message(user_opts={"a": "x" * command.MAX_BODY})),
        "kwargs null": changed(kwargs=None),
        "kwargs a list": changed(kwargs=[]),
        "no credentials": delivery(message(amqp_creds=None)),
        "no heartbeat queue": delivery(message(amqp_creds=amqp_creds() | {"heartbeat_queue_info": 3})),
        "no task queue": delivery(message(amqp_creds=amqp_creds() | {"task_queue_info": "q"})),
        "an endpoint without uuid": delivery(message(amqp_creds=amqp_creds() | {"endpoint_id": "../../etc"})),
        "an endpoint id that is a map": delivery(message(amqp_creds=amqp_creds() | {"endpoint_id": {}})),
        "an http address": delivery(message(amqp_creds=amqp_creds("http://127.0.0.1/"))),
        "no host": delivery(message(amqp_creds=amqp_creds("amqp:///v"))),
        "no port number": delivery(message(amqp_creds=amqp_creds("amqp://h:abc/v"))),
        "a name of slashes": delivery(message(name="/" * 300)),
        "a name of another manager": delivery(message(name=f"uep.{UEP}.{UEP}")),
        "a name that is a map": delivery(message(name={})),
        "another command": changed(command="cmd_stop_endpoint"),
        "a command that is a list": changed(command=["cmd_start_endpoint"]),
        "old": delivery(message(), age=command.MAX_SKEW + 2),
        "of the future": delivery(message(), age=-command.MAX_SKEW - 2),
        "no timestamp": with_timestamp(None),
        "a text for a timestamp": with_timestamp(str(round(time.time()))),
        "a truth for a timestamp": with_timestamp(True),
        "options that are a list": delivery(message(user_opts=["a"])),
        "runtime that is a text": delivery(message(user_runtime="x")),
        "identities null": changed(globus_identity_set=None),
        "no identities": changed(globus_identity_set=[]),
        "identities of texts": changed(globus_identity_set=["alice"]),
        "an identity without sub": changed(globus_identity_set=[{"id": ALICE}]),
        "an identity that is a number": changed(globus_identity_set=[{"sub": 3}]),
        "an identity without a usable id": changed(globus_identity_set=[{"sub": ALICE, "id": 3}]),
    }


@pytest.mark.parametrize("name", bad())
def test_a_bad_command_is_refused_with_a_text(name: str) -> None:
    with pytest.raises(CommandError) as refused:
        go_through(bad()[name])
    assert refused.value.text


def test_a_refusal_never_shows_credentials() -> None:
    for found in bad().values():
        with pytest.raises(CommandError) as refused:
            go_through(found)
        assert "hush" not in refused.value.text + refused.value.detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def paths(value: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a message."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [prefix, *(path for key, inner in items for path in paths(inner, (*prefix, key)))]


@given(st.data())
def test_whatever_is_wrong_is_a_command_error(data: st.DataObject) -> None:
    values = copy.deepcopy(message())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([path for path in paths(values) if path]))
        target: Any = values
        for key in path[:-1]:
            target = target[key]
        target[path[-1]] = data.draw(JSON)
    try:
        start = go_through(delivery(values))
    except CommandError:
        return
    assert start.name == f"uep.{MANAGER}.{start.credentials.endpoint_id}"
    assert isinstance(start.options, dict)
    assert all(isinstance(identity["sub"], str) for identity in start.identities)


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_arrives_is_a_command_error(body: bytes) -> None:
    with pytest.raises(CommandError):
        go_through(delivery(body))
