"""Credentials: where they come from, and that nothing shows them."""

import json
import logging
import os
import pickle
from pathlib import Path

import pytest
from broker_rig import own_credentials
from twinlock_broker.compute.login import ClientLogin, PersonLogin, load_login
from twinlock_broker.errors import Fatal
from twinlock_broker.logs import KeyValue
from twinlock_broker.privileges import refuse_privileges
from twinlock_broker.secret import Secret


def test_a_secret_cant_be_shown() -> None:
    secret = Secret("hush")
    for shown in (repr(secret), str(secret), f"{secret}", f"{[secret]}", "%s" % secret):  # noqa: UP031
        assert "hush" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert secret.reveal() == "hush"


def test_a_commands_credentials_cant_be_shown() -> None:
    assert "hush" not in repr(own_credentials())


def test_login_from_systemd_wins_over_the_environment(tmp_path: Path) -> None:
    (tmp_path / "client_id").write_text("unit-id\n")
    (tmp_path / "client_secret").write_text("unit-secret\n")
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "GLOBUS_COMPUTE_CLIENT_ID": "env-id",
        "GLOBUS_COMPUTE_CLIENT_SECRET": "env-secret",
    }
    (tmp_path / "tokens.json").write_text("{}")
    login = load_login(tmp_path, environ)
    assert isinstance(login, ClientLogin)
    assert (login.client_id, login.client_secret.reveal()) == ("unit-id", "unit-secret")
    (tmp_path / "client_id").unlink()
    (tmp_path / "client_secret").unlink()
    assert load_login(tmp_path, environ).name == "client env-id"
    assert isinstance(load_login(tmp_path, {}), PersonLogin)


@pytest.mark.parametrize("name", ["GLOBUS_COMPUTE_CLIENT_ID", "GLOBUS_COMPUTE_CLIENT_SECRET", "OTHER"])
def test_half_a_login_is_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(Fatal, match="GLOBUS_COMPUTE_CLIENT_SECRET") as ended:
        load_login(tmp_path, {name: "value-of-it"})
    assert ended.value.status == os.EX_NOPERM
    assert "value-of-it" not in str(ended.value)


@pytest.mark.parametrize(("name", "missing"), [("client_id", "secret"), ("client_secret", "id")])
def test_half_a_login_from_systemd_isnt_completed_by_the_environment(tmp_path: Path, name: str, missing: str) -> None:
    (tmp_path / name).write_text("value-of-it")
    environ = {
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "GLOBUS_COMPUTE_CLIENT_ID": "env-id",
        "GLOBUS_COMPUTE_CLIENT_SECRET": "env-secret",
    }
    with pytest.raises(Fatal, match=f"^no client {missing} in systemd's credentials: set GLOBUS_COMPUTE") as ended:
        load_login(tmp_path, environ)
    assert ended.value.status == os.EX_NOPERM
    assert "value-of-it" not in str(ended.value)


STATUS = "Name:\tx\nCapInh:\t0\nCapPrm:\t{}\nCapEff:\t{}\nCapAmb:\t0000000000000000\n"


def test_root_and_capabilities_are_refused() -> None:
    none = "0000000000000000"
    refuse_privileges(1000, STATUS.format(none, none))
    for uid, status in ((0, STATUS.format(none, none)), (1000, STATUS.format("80", none))):
        with pytest.raises(Fatal) as ended:
            refuse_privileges(uid, status)
        assert ended.value.status == os.EX_NOPERM


def test_an_event_is_one_line_and_drives_no_terminal() -> None:
    record = logging.LogRecord("n", logging.INFO, "f", 1, "user says %s", ("a\nFAKE LINE\x1b[31m\u2028\x9b",), None)
    line = KeyValue().format(record)
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line.partition("event=")[2]) == "user says a\nFAKE LINE\x1b[31m\u2028\x9b"


def test_an_event_names_what_it_is_about_in_pairs() -> None:
    record = logging.LogRecord("twinlock_broker.x.y", logging.INFO, "f", 1, 'x" user=root', (), None)
    record.__dict__ |= {"endpoint": "some-uuid", "user": "ada lovelace"}
    line = KeyValue().format(record)
    assert line.endswith(r'Z level=INFO logger=x.y endpoint=some-uuid user="ada lovelace" event="x\" user=root"')
