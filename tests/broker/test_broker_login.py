"""`twinlock login` and the broker's use of what it leaves, against a server that answers as Globus Auth does."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_rest import Service, rest_service
from broker_rig import ALICE, UEP, make_folder
from twinlock_broker.compute.login import load_login
from twinlock_broker.compute.registration import identities, register
from twinlock_broker.config.folder import Folder
from twinlock_broker.errors import Fatal

TWINLOCK = Path(sys.executable).with_name("twinlock")
URL = "amqp://mep:hush@127.0.0.1:5672/v"


def token(server: str, expires_in: int) -> dict[str, Any]:
    """One token, as Globus Auth gives it to a person."""
    kind = {"token_type": "Bearer", "scope": "some scopes", "expires_in": expires_in}
    return kind | {"resource_server": server, "access_token": f"{server}-access", "refresh_token": f"{server}-refresh"}


def tokens(expires_in: int = 99999) -> dict[str, Any]:
    """What a code is worth."""
    return token("auth.globus.org", expires_in) | {"other_tokens": [token("funcx_service", expires_in)]}


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with rest_service(URL) as made:
        made.tokens = tokens()
        for name, url in made.environment.items():
            monkeypatch.setenv(name, url)
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return make_folder(tmp_path / "ep")


def log_in(folder: Folder, code: str = "the-code\n") -> "subprocess.CompletedProcess[str]":
    """The command."""
    argv: list[str | Path] = [TWINLOCK, "login", folder.path]
    return subprocess.run(argv, input=code, capture_output=True, text=True, timeout=60, check=False)


def test_a_person_logs_in_and_the_broker_registers_as_them(service: Service, folder: Folder) -> None:
    done = log_in(folder)
    assert done.returncode == 0, done.stderr
    assert "/v2/oauth2/authorize?" in done.stdout
    assert "access_type=offline" in done.stdout, "a refresh token, for as long as the broker runs"
    assert service.logins[0]["grant_type"] == "authorization_code"
    assert service.logins[0]["code"] == "the-code"
    assert "client_secret" not in service.logins[0]
    path = folder.path / "tokens.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert register(folder, None, load_login(folder.path, {})).endpoint_id == UEP
    service.answer = {"sub": ALICE, "identity_set": []}
    assert identities(folder, load_login(folder.path, {})) == {ALICE}
    assert len(service.logins) == 1, "the tokens are still good"


def test_tokens_that_expired_are_renewed_and_kept(service: Service, folder: Folder) -> None:
    service.tokens = tokens(expires_in=-1)
    log_in(folder)
    service.tokens = token("funcx_service", 99999) | {"other_tokens": [], "refresh_token": "newer"}
    register(folder, None, load_login(folder.path, {}))
    assert service.logins[1] == service.logins[1] | {
        "grant_type": "refresh_token",
        "refresh_token": "funcx_service-refresh",
    }
    assert "newer" in (folder.path / "tokens.json").read_text()
    register(folder, None, load_login(folder.path, {}))
    assert len(service.logins) == 2


def test_tokens_that_cant_be_kept_are_told_and_cost_no_login(service: Service, folder: Folder) -> None:
    service.tokens = tokens(expires_in=-1)
    log_in(folder)
    before = (folder.path / "tokens.json").read_text()
    (folder.path / "tokens.new").mkdir()  # so nothing can be written there
    service.tokens = token("funcx_service", 99999) | {"other_tokens": []}
    with pytest.raises(Fatal, match="fresh tokens can't be kept") as ended:
        register(folder, None, load_login(folder.path, {}))
    assert ended.value.status == os.EX_TEMPFAIL
    assert (folder.path / "tokens.json").read_text() == before


def test_a_login_that_was_revoked_ends_with_77_and_says_what_to_do(service: Service, folder: Folder) -> None:
    service.tokens = tokens(expires_in=-1)
    log_in(folder)
    service.token_status, service.tokens = 400, {"error": "invalid_grant"}
    with pytest.raises(Fatal, match="twinlock login") as ended:
        register(folder, None, load_login(folder.path, {}))
    assert ended.value.status == os.EX_NOPERM
    assert "refresh" not in str(ended.value).replace("refreshed", "")


def test_a_running_broker_whose_person_logged_out_registers_no_more(service: Service, folder: Folder) -> None:
    log_in(folder)
    login = load_login(folder.path, {})
    argv: list[str | Path] = [TWINLOCK, "logout", "--force", folder.path]
    assert subprocess.run(argv, capture_output=True, timeout=60, check=False).returncode == 0
    with pytest.raises(Fatal, match="run twinlock login again") as ended:
        register(folder, None, login)
    assert ended.value.status == os.EX_NOPERM


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"data": {}}', json.dumps({"data": {"DEFAULT": {"x": 1}}})])
def test_a_broken_token_file_is_named(service: Service, folder: Folder, text: str) -> None:
    (folder.path / "tokens.json").write_text(text)
    with pytest.raises(Fatal, match=r"tokens\.json.*twinlock login") as ended:
        register(folder, None, load_login(folder.path, {}))
    assert ended.value.status == os.EX_NOPERM


def test_a_code_that_is_refused_or_missing_leaves_nothing(service: Service, folder: Folder) -> None:
    service.token_status, service.tokens = 401, {"error": "invalid_grant"}
    for code in ("wrong\n", ""):
        done = log_in(folder, code)
        assert done.returncode == os.EX_NOPERM
        assert not (folder.path / "tokens.json").exists()
    service.stop()
    done = log_in(folder)
    assert (done.returncode, "can't be reached" in done.stderr) == (os.EX_TEMPFAIL, True)


def test_whoami_names_the_person(service: Service, folder: Folder) -> None:
    log_in(folder)
    service.answer = {"sub": ALICE, "identity_set": [{"sub": UEP}]}
    done = subprocess.run([TWINLOCK, "whoami", folder.path], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert "the person who logged in" in done.stdout
    assert f"identity {ALICE}\n" in done.stdout
