"""What a delegation says, and for which host and time it holds."""

import json
from typing import Any

import pytest
from nacl.signing import SigningKey
from signed_rig import HOST, HOUR, delegated, statement
from twinlock_signed import delegation
from twinlock_signed.errors import Refused

NOW = 1_764_444_444
OTHER = "99999999-2222-4333-8444-555555555555"


def changed(**fields: Any) -> bytes:
    """The statement of a good delegation, with fields changed as nobody could write them."""
    return json.dumps(json.loads(statement()) | fields).encode()


def test_it_is_read_as_it_was_written() -> None:
    whole = delegated(user_endpoint_config={"ä": [1, 1.5, None, True, {"b": "\u2028"}]})
    assert delegation.read(delegation.write(whole)) == whole


def test_a_million_bytes_are_refused() -> None:
    whole = delegated(user_endpoint_config={"worker_init": "x" * 1_000_000})
    with pytest.raises(Refused, match=r"The delegation has 1000... bytes, and may have 65536; send less"):
        delegation.write(whole)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"id": "1"}, "'id' is not 32 hexadecimal digits"),
        ({"session_key": "AAAAC3NzaC1lZDI1NTE5"}, "'session_key' is not 64 hexadecimal digits"),
        ({"session_key": {"algorithm": "none"}}, "'session_key' is not 64 hexadecimal digits"),
        ({"algorithm": "rsa"}, "unknown field 'algorithm'"),
        ({"user_endpoint_config": None}, "'user_endpoint_config' is not an object"),
        ({"issued": True}, "'issued' is not a time"),
        ({"expires": 1e9}, "'expires' is not a time"),
        ({"manager": "11111111222243338444555555555555"}, "'manager' is not a uuid"),
    ],
)
def test_fields_of_another_form(fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        delegation.read(changed(**fields))


def test_the_host_and_the_time_that_it_is_for() -> None:
    delegation.check(delegated(issued=NOW, expires=NOW + HOUR), HOST, NOW)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"account": "bob@cluster.example.org"}, "is for 'bob@cluster.example.org', and this endpoint runs as 'ada@"),
        ({"account": "ada@other.example.org"}, "is for 'ada@other.example.org'"),
        ({"account": "ada"}, "is for 'ada'"),
        ({"account": "Ada@cluster.example.org"}, "is for 'Ada@"),
        ({"manager": OTHER}, f"is for the endpoint {OTHER}"),
        ({"expires": NOW + 86401}, "is valid for 86401 s, and may be for 86400 s"),
        ({"issued": NOW - 2 * HOUR, "expires": NOW}, "expired 0 s ago"),
        ({"issued": NOW + 301, "expires": NOW + HOUR}, "was issued 301 s from now; correct the clock"),
        ({"issued": NOW + 300, "expires": NOW + HOUR}, None),
        ({"expires": NOW + 86400}, None),
        ({"expires": NOW + 1}, None),
    ],
)
def test_another_host_or_another_time(fields: dict[str, Any], reason: str | None) -> None:
    whole = delegated(**{"issued": NOW, "expires": NOW + HOUR} | fields)
    if reason is None:
        delegation.check(whole, HOST, NOW)
    else:
        with pytest.raises(Refused, match=reason):
            delegation.check(whole, HOST, NOW)


@pytest.mark.parametrize("skew", [-301, 301, HOUR, -HOUR])
def test_a_clock_that_was_changed_makes_no_delegation_longer(skew: int) -> None:
    """It is as valid as the host's clock says; a host whose clock is behind by more refuses what was just issued."""
    whole = delegated(issued=NOW, expires=NOW + 60)
    with pytest.raises(Refused, match="expired" if skew > 0 else "from now"):
        delegation.check(whole, HOST, NOW + skew)


def test_options_that_only_look_equal_are_different() -> None:
    same = [{"a": 1, "b": [{}]}, {"b": [{}], "a": 1}]
    others: list[dict[str, Any]] = [{"a": 1.0, "b": [{}]}, {"a": True, "b": [{}]}, {"a": "1", "b": [{}]}, {"a": 1}]
    assert len(set(map(delegation.options, same))) == 1
    assert len(set(map(delegation.options, [same[0], *others]))) == 5


def test_the_session_key_is_its_own() -> None:
    key = SigningKey.generate()
    assert bytes.fromhex(delegated(key).session_key) == bytes(key.verify_key)
