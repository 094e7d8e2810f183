"""Sessions: when a delegation is made, and what is signed in its tasks."""

import json
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from client_rig import ADA, VerifyingHost
from signed_rig import HOUR, MANAGER
from twinlock_client import delegations, ssh_keys
from twinlock_client.records import issued
from twinlock_client.session import Asked, SavedSession, SigningSession
from twinlock_signed.errors import Refused

ASKED = Asked("04\ncode", "11\n[1]", '11\n{"a": 2}', {"num_nodes": 2}, ["a.Strategy"])
OPTIONS: dict[str, Any] = {"worker_init": "module load conda", "nodes": 2}
OTHER_MANAGER = "99999999-2222-4333-8444-555555555555"


def session(key: Path, seconds: int = HOUR) -> SigningSession:
    return SigningSession(ADA, key, seconds, lambda: {"python": {"version_tuple": (3, 12, 1)}})


def test_a_host_accepts_what_was_asked(ada: Path) -> None:
    signed = session(ada).numbered(MANAGER, OPTIONS).sign(ASKED, None)
    said, task = VerifyingHost.knowing(ada).accept(signed.texts)
    assert Asked(task.function, task.args, task.kwargs, task.resource_specification, task.result_serializers) == ASKED
    assert (said.account, said.manager, said.user_endpoint_config) == (str(ADA), MANAGER, OPTIONS)
    assert said.user_runtime == {"python": {"version_tuple": [3, 12, 1]}}
    assert task.expires == said.expires == said.issued + HOUR


def test_the_key_is_used_once_for_the_same_options(ada: Path) -> None:
    """In any order of their names. Then the key is gone, and nothing else can be signed."""
    made, host = session(ada), VerifyingHost.knowing(ada)
    tasks = [made.numbered(MANAGER, OPTIONS).sign(ASKED, None)]
    ada.unlink()
    tasks += [made.numbered(MANAGER, dict(reversed(OPTIONS.items()))).sign(ASKED, None) for _ in range(9)]
    accepted = [host.accept(signed.texts) for signed in tasks]
    assert len({said.id for said, _ in accepted}) == 1
    assert len({task.number for _, task in accepted}) == 10
    for manager, options in ((OTHER_MANAGER, OPTIONS), (MANAGER, {**OPTIONS, "nodes": 3}), (MANAGER, None)):
        with pytest.raises(Refused, match="there is no such file"):
            made.numbered(manager, options)


def test_other_options_or_another_endpoint_are_another_delegation(ada: Path) -> None:
    made = session(ada)
    ids = {
        made.numbered(manager, options).delegated.said.id
        for manager in (MANAGER, OTHER_MANAGER)
        for options in (OPTIONS, {"nodes": 2}, {"nodes": 2.0}, {"nodes": True}, None)
    }
    assert len(ids) == 10
    assert made.numbered(MANAGER, None) is made.numbered(MANAGER, {})


def test_it_is_renewed_before_it_expires(ada: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = session(ada, seconds=1000)
    first = made.numbered(MANAGER, OPTIONS).delegated.said
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + 880)
    assert made.numbered(MANAGER, OPTIONS).delegated.said == first
    monkeypatch.setattr(time, "time", lambda: start + 920)
    second = made.numbered(MANAGER, OPTIONS).delegated.said
    assert second.expires >= first.expires + 900
    assert second.session_key != first.session_key


def test_several_threads_ask_for_one_signature(ada: Path) -> None:
    """Nobody wants to type a passphrase eight times."""
    made = session(ada)
    found = []
    threads = [threading.Thread(target=lambda: found.append(made.numbered(MANAGER, OPTIONS))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


@pytest.mark.parametrize(("lifetime", "seconds"), [(60, 60), (10 * HOUR, HOUR)])
def test_how_long_a_task_is_valid(ada: Path, lifetime: int, seconds: int) -> None:
    """Not longer than its delegation."""
    signed = session(ada).numbered(MANAGER, OPTIONS).sign(ASKED, lifetime)
    _, task = VerifyingHost.knowing(ada).accept(signed.texts)
    assert abs(task.expires - task.issued - seconds) <= 1


def test_options_are_signed_as_json_has_them(ada: Path) -> None:
    said = session(ada).numbered(MANAGER, {"a": (1, 2), 3: None}).delegated.said  # type: ignore[dict-item]
    assert said.user_endpoint_config == {"a": [1, 2], "3": None}


@pytest.mark.parametrize("options", [{"a": float("nan")}, {"a": {1}}, {"a": b"x"}, {"a": float("inf")}])
def test_options_that_json_can_not_say(ada: Path, options: dict[str, Any]) -> None:
    with pytest.raises(Refused, match="user_endpoint_config: JSON can't say it"):
        session(ada).numbered(MANAGER, options)


def test_options_that_are_too_large(ada: Path) -> None:
    with pytest.raises(Refused, match=r"The delegation has .* bytes, and may have 65536"):
        session(ada).numbered(MANAGER, {"worker_init": "x" * 70_000})


def test_a_delegation_for_a_century(ada: Path) -> None:
    """Nothing of it is written, since nobody could read its end."""
    with pytest.raises(Refused, match="A delegation for 3153600000 s: it is too long; ask for 315360000 s or less"):
        session(ada, seconds=100 * 365 * 86400).numbered(MANAGER, None)
    assert issued.read() == []


def test_a_resource_specification_that_json_can_not_say(ada: Path) -> None:
    with pytest.raises(Refused, match="resource_specification: JSON can't say it"):
        session(ada).numbered(MANAGER, None).sign(ASKED._replace(resource_specification={"a": {1}}), None)


def test_what_was_delegated_is_recorded_without_secrets(ada: Path, home: Path) -> None:
    said = session(ada).numbered(MANAGER, OPTIONS).delegated.said
    assert issued.read() == [issued.Issued(said.id, str(ADA), MANAGER, said.issued, said.expires)]
    written = "".join(path.read_text() for path in home.rglob("*") if path.is_file())
    assert said.id in written
    assert "conda" not in written
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.rglob("*") if path.is_file())


@pytest.fixture
def saved(ada: Path, tmp_path: Path) -> Path:
    """A delegation's file."""
    path = tmp_path / "delegation"
    delegations.save(delegations.make(ADA, MANAGER, OPTIONS, {}, HOUR, ssh_keys.choose(ada)), path)
    return path


def test_a_saved_delegation(saved: Path, ada: Path) -> None:
    """Sessions one after the other never use a number twice."""
    host, numbers = VerifyingHost.knowing(ada), []
    for _ in range(3):
        one = SavedSession(saved)
        for _ in range(3):
            numbers.append(host.accept(one.numbered(MANAGER, OPTIONS).sign(ASKED, None).texts)[1].number)
        one.close()
    assert numbers == sorted(set(numbers))
    assert saved.stat().st_mode & 0o777 == 0o600


def test_a_saved_delegation_is_used_by_one_at_a_time(saved: Path) -> None:
    first = SavedSession(saved)
    with pytest.raises(Refused, match="another session uses it"):
        SavedSession(saved)
    first.close()
    SavedSession(saved).close()


def test_a_saved_delegation_is_for_one_endpoint_and_options(saved: Path) -> None:
    one = SavedSession(saved)
    for manager, options in ((OTHER_MANAGER, OPTIONS), (MANAGER, None), (MANAGER, {**OPTIONS, "nodes": True})):
        with pytest.raises(Refused, match=f"it is for the endpoint {MANAGER} with the options"):
            one.numbered(manager, options)


def test_a_saved_delegation_that_expires(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SavedSession(saved)
    start = time.time()
    monkeypatch.setattr(time, "time", lambda: start + HOUR + 1)
    with pytest.raises(Refused, match="the delegation has expired"):
        one.numbered(MANAGER, OPTIONS)
    one.close()
    with pytest.raises(Refused, match="the delegation has expired"):
        SavedSession(saved)


def test_a_delegations_file_is_not_overwritten(saved: Path, ada: Path) -> None:
    before = saved.read_bytes()
    with pytest.raises(Refused, match="it is there already"):
        delegations.save(delegations.make(ADA, MANAGER, OPTIONS, {}, HOUR, ssh_keys.choose(ada)), saved)
    assert saved.read_bytes() == before


def test_a_delegations_file_that_others_can_read(saved: Path) -> None:
    saved.chmod(0o640)
    with pytest.raises(Refused, match="others could read or change it"):
        SavedSession(saved)


def test_a_delegations_file_that_is_a_link_or_a_pipe(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(saved)
    os.mkfifo(tmp_path / "pipe", 0o600)
    for name in ("link", "pipe", "nothing"):
        with pytest.raises(Refused, match=name):
            SavedSession(tmp_path / name)


@pytest.mark.parametrize(
    "change", [{"session_key": "11" * 32}, {"session_key": "x"}, {"delegation": "{}"}, {"signature": None}]
)
def test_a_delegations_file_that_was_changed(saved: Path, change: dict[str, Any]) -> None:
    fields = json.loads(saved.read_text()) | change
    saved.write_text(json.dumps({name: value for name, value in fields.items() if value is not None}))
    with pytest.raises(Refused, match=r"not a delegation's file|its session key is another one's"):
        SavedSession(saved)
