"""Tasks and results: what a session key and an account's key have signed."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from signed_rig import HOUR, MANAGER, delegated
from twinlock_signed import delegation, dsse, result, result_key, task
from twinlock_signed.delegation import Delegation
from twinlock_signed.errors import ConfigError, Refused
from twinlock_signed.result import Result
from twinlock_signed.statement import digest
from twinlock_signed.task import Task

SESSION = SigningKey(b"\1" * 32)
ACCOUNT = SigningKey(b"\2" * 32)
NOW = 1_764_444_444
DELEGATION = delegated(SESSION, issued=NOW, expires=NOW + HOUR)
OTHER = "99999999-2222-4333-8444-555555555555"


def asked(of: Delegation = DELEGATION, **fields: Any) -> Task:
    """A task that is good at `NOW`."""
    whole = Task(
        delegation=digest(delegation.write(of)),
        number=7,
        issued=NOW,
        expires=NOW + HOUR,
        resource_specification={"num_nodes": 2},
        result_serializers=[],
        function="04\nAbc=",
        args="05\n[]",
        kwargs="05\n{}",
    )
    return replace(whole, **fields)


def accepted(statement: bytes, signature: str, of: Delegation = DELEGATION, now: float = NOW) -> Task:
    return task.verify(statement, signature, of, digest(delegation.write(of)), now)


def test_the_example_of_dsse() -> None:
    """From its protocol.md."""
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )


@given(st.text(max_size=9), st.binary(max_size=9), st.text(max_size=9), st.binary(max_size=9))
def test_two_bodies_or_types_never_look_the_same(kind: str, body: bytes, other: str, more: bytes) -> None:
    try:
        same = dsse.pae(kind, body) == dsse.pae(other, more)
    except UnicodeEncodeError:
        return
    assert same == ((kind, body) == (other, more))


@pytest.mark.parametrize("function", ["04\nAbc=", "\u00e9\u2028\0", "x" * 1_000_000])
def test_a_task_that_was_signed(function: str) -> None:
    whole = asked(function=function)
    statement = task.write(whole)
    assert accepted(statement, task.sign(statement, SESSION)) == whole


def test_a_task_that_was_not_signed() -> None:
    statement = task.write(asked())
    good = task.sign(statement, SESSION)
    with pytest.raises(Refused, match="signature of the task is wrong"):
        accepted(statement.replace(b'"number":7', b'"number":8'), good)
    with pytest.raises(Refused, match="signature of the task is wrong"):
        accepted(statement, task.sign(statement, ACCOUNT))
    with pytest.raises(Refused, match="signature of the task is wrong"):
        accepted(task.write(asked(args="05\n[1]")), good)
    for junk in ("", good[:-1], good.upper(), good + "00", "\u0660" * 128, "0" * 128):
        with pytest.raises(Refused, match="signature of the task is"):
            accepted(statement, junk)


def test_it_is_not_looked_into_before_its_signature_is_known() -> None:
    with pytest.raises(Refused, match="signature of the task is wrong"):
        accepted(b"[" * 100_000, task.sign(b"", SESSION))


def test_a_signature_for_another_type() -> None:
    """Even if the same key made it over the same bytes."""
    statement = task.write(asked())
    for kind in (result.TYPE, task.TYPE.replace("v1", "v2"), ""):
        with pytest.raises(Refused, match="signature of the task is wrong"):
            accepted(statement, dsse.sign(SESSION, kind, statement))
    with pytest.raises(Refused, match="signature of the task is wrong"):
        accepted(statement, SESSION.sign(statement).signature.hex())


def test_a_task_of_another_delegation() -> None:
    """Of another session key, and of another delegation for the same one."""
    statement = task.write(asked())
    signature = task.sign(statement, SESSION)
    with pytest.raises(Refused, match="signature of the task is wrong"):
        accepted(statement, signature, delegated(ACCOUNT))
    with pytest.raises(Refused, match="belongs to another delegation of the same key"):
        accepted(statement, signature, replace(DELEGATION, user_endpoint_config={"worker_init": "evil"}))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"expires": NOW}, "The task expired 0 s ago"),
        ({"issued": NOW + 301}, "The task was issued 301 s from now"),
        ({"issued": NOW + 300, "expires": NOW + 1}, None),
    ],
)
def test_times_of_a_task(fields: dict[str, Any], reason: str | None) -> None:
    statement = task.write(asked(**fields))
    signature = task.sign(statement, SESSION)
    if reason is None:
        accepted(statement, signature)
    else:
        with pytest.raises(Refused, match=reason):
            accepted(statement, signature)


@pytest.mark.parametrize(
    "fields",
    [
        *({"number": -1}, {"number": True}, {"number": 7.0}, {"delegation": "x"}, {"function": None}, {"more": 1}),
        *({"result_serializers": None}, {"result_serializers": [1]}, {"resource_specification": []}, {"args": []}),
    ],
)
def test_signed_fields_of_another_form(fields: dict[str, Any]) -> None:
    statement = json.dumps(json.loads(task.write(asked())) | fields).encode()
    with pytest.raises(Refused, match=f"'{next(iter(fields))}'"):
        accepted(statement, task.sign(statement, SESSION))


def test_a_task_that_is_too_large() -> None:
    with pytest.raises(Refused, match=r"The task has .* bytes, and may have 10485760; send less"):
        task.write(asked(args="x" * task.MOST))
    with pytest.raises(Refused, match=r"The task has .* bytes"):
        accepted(b" " * (task.MOST + 1), "")


@pytest.mark.parametrize("session", ["00" * 32, "ff" * 32, "01" + "00" * 31])
def test_a_session_key_that_is_no_good_key(session: str) -> None:
    """Points of small order, or none at all."""
    statement = task.write(asked())
    with pytest.raises(Refused):
        accepted(statement, task.sign(statement, SESSION), replace(DELEGATION, session_key=session))


def test_what_is_shown_of_a_task_has_no_code() -> None:
    assert "Abc" not in repr(asked())


def test_a_result_that_was_signed() -> None:
    whole = Result(MANAGER, digest(b"a task"), True, "05\n[1]")
    statement = result.write(whole)
    signature = result.sign(statement, ACCOUNT)
    public = dsse.public_half(ACCOUNT)
    assert result.verify(statement, signature, public, MANAGER, digest(b"a task")) == whole
    with pytest.raises(Refused, match="signature of the result is wrong"):
        result.verify(statement.replace(b"true", b"false"), signature, public, MANAGER, whole.task)
    with pytest.raises(Refused, match="signature of the result is wrong"):
        result.verify(statement, result.sign(statement, SESSION), public, MANAGER, whole.task)
    with pytest.raises(Refused, match="signature of the result is wrong"):
        result.verify(statement, dsse.sign(ACCOUNT, task.TYPE, statement), public, MANAGER, whole.task)
    for manager, of in ((OTHER, whole.task), (MANAGER, digest(b"another task"))):
        with pytest.raises(Refused, match="The result is another task's"):
            result.verify(statement, signature, public, manager, of)


def test_a_result_that_travels() -> None:
    """As the SDK packs a list by `JSONData`, so that its own messages can carry it."""
    statement = result.write(Result(MANAGER, digest(b"a task"), True, '05\n"quoted"'))
    text = result.pack(statement, "ab" * 64)
    identifier, _, packed = text.partition("\n")
    assert (identifier, json.loads(packed)) == ("11", [statement.decode(), "ab" * 64])
    assert result.unpack(text) == (statement, "ab" * 64)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "11",
            '["a", "b"]',
            '00\n["a", "b"]',
            '11\n["a"]',
            '11\n["a", "b", "c"]',
            '11\n["a", 1]',
            '11\n["\u00e9", "b"]',
        ),
        *("11\n" + "[" * 100_000, '11\n{"a": "b"}', "11\nnull", "11\n["),
    ],
)
def test_texts_that_have_no_signed_result(text: str) -> None:
    with pytest.raises(Refused, match="The result is not signed"):
        result.unpack(text)


def test_a_result_that_nobody_verifies() -> None:
    whole = Result(MANAGER, digest(b"a task"), True, "05\n[1]")
    assert result.claimed(result.write(whole), MANAGER, whole.task) == whole
    with pytest.raises(Refused, match="The result is another task's"):
        result.claimed(result.write(whole), MANAGER, digest(b"another task"))
    with pytest.raises(Refused, match="not strict JSON"):
        result.claimed(b"{", MANAGER, whole.task)


@pytest.mark.parametrize("fields", [{"success": 1}, {"success": None}, {"data": {"a": 1}}, {"more": 1}, {"task": "x"}])
def test_results_of_another_form(fields: dict[str, Any]) -> None:
    good = Result(MANAGER, digest(b"a task"), True, "")
    statement = json.dumps(json.loads(result.write(good)) | fields).encode()
    with pytest.raises(Refused, match=f"'{next(iter(fields))}'"):
        result.verify(statement, result.sign(statement, ACCOUNT), dsse.public_half(ACCOUNT), MANAGER, good.task)


def test_a_public_half_that_is_no_key() -> None:
    statement = result.write(Result(MANAGER, digest(b"a task"), True, ""))
    for public in ("", "00", "xx" * 32):
        with pytest.raises(Refused, match="is not the public half of an Ed25519 key"):
            result.verify(statement, result.sign(statement, ACCOUNT), public, MANAGER, digest(b"a task"))


def test_the_accounts_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "state" / "twinlock" / "result.key"
    first = dsse.public_half(result_key.load_or_make(path))
    assert dsse.public_half(result_key.load_or_make(path)) == first
    assert dsse.public_half(result_key.load(path)) == first
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["result.key", "result.pub"]


def test_its_public_half_is_there_for_users(tmp_path: Path) -> None:
    """In the form in which it is enrolled, also where the key alone is left, or the file is another key's."""
    path = tmp_path / "result.key"
    key = result_key.load_or_make(path)
    public = path.with_name("result.pub")
    assert public.read_text() == result_key.public_line(key) == f"twinlock-result-key-v1 {dsse.public_half(key)}\n"
    public.write_text(result_key.public_line(ACCOUNT))
    result_key.load_or_make(path)
    assert result_key.read_public(public.read_text()) == dsse.public_half(key)
    public.unlink()
    result_key.load_or_make(path)
    assert result_key.read_public(public.read_text()) == dsse.public_half(key)


def test_a_public_half_that_is_enrolled() -> None:
    line = result_key.public_line(ACCOUNT)
    assert result_key.read_public(f"Welcome!\r\n{line}\n{line}") == dsse.public_half(ACCOUNT)
    for text in ("", dsse.public_half(ACCOUNT), line.upper(), f"# {line}", line.replace("v1", "v2"), line[:-2]):
        with pytest.raises(Refused, match="There is no result key in what came; it has to have one line"):
            result_key.read_public(text)
    with pytest.raises(Refused, match="There are several result keys"):
        result_key.read_public(line + result_key.public_line(SESSION))


def test_an_accounts_key_that_was_put_there(tmp_path: Path) -> None:
    path = tmp_path / "result.key"
    path.write_text(f"twinlock-result-secret-v1 {bytes(SESSION).hex()}\n")
    path.chmod(0o600)
    assert dsse.public_half(result_key.load_or_make(path)) == dsse.public_half(SESSION)


def test_an_accounts_key_that_others_can_read(tmp_path: Path) -> None:
    path = tmp_path / "result.key"
    result_key.load_or_make(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="make it a file of your own with mode 600"):
        result_key.load_or_make(path)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\xff" * 91,
        b"twinlock-result-key-v1 " + b"1" * 64 + b"\n",
        b"twinlock-result-secret-v2 " + b"1" * 64 + b"\n",
        b"twinlock-result-secret-v1 " + b"1" * 62 + b"\n",
        b"twinlock-result-secret-v1 " + b"1" * 64,
        b"twinlock-result-secret-v1 " + b"1" * 64 + b"\n\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ],
)
def test_an_accounts_key_that_is_none(tmp_path: Path, text: bytes) -> None:
    """Or one for something else."""
    path = tmp_path / "result.key"
    path.write_bytes(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="is not a key for results; remove it"):
        result_key.load_or_make(path)


def test_signing_and_verifying_cost_little() -> None:
    """A bound that only a mistake exceeds, such as a program for each task."""
    statement = task.write(asked())
    start = time.process_time()
    for _ in range(100):
        accepted(statement, task.sign(statement, SESSION))
    assert time.process_time() - start < 1.0
