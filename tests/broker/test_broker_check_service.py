"""What `twinlock check` says about registration and login, and what the service says to it."""

import os
import pwd
import shutil
from pathlib import Path

import pytest
from broker_rest import Service
from broker_rig import MANAGER
from globus_sdk.token_storage import JSONTokenStorage, TokenStorageData
from placed_rig import Site


def test_check_asks_as_the_installed_client(placed: Site, service: Service) -> None:
    found = placed.findings(service.environment)
    assert found["registration"] == ("ok", f"endpoint.json: {MANAGER}")
    assert found["login"][0] == found["service"][0] == "ok"
    assert ("GET", f"/v2/endpoints/{MANAGER}", None) in service.asked
    assert {method for method, _, _ in service.asked} == {"GET"}, "nothing is changed"


def test_check_says_that_the_login_is_refused(placed: Site, service: Service) -> None:
    service.token_status, service.tokens = 401, {"error": "invalid_client"}
    kind, text = placed.findings(service.environment)["login"]
    assert kind == "failure"
    assert "Globus Auth refused the login" in text


def test_check_says_that_the_service_does_not_know_the_endpoint(placed: Site, service: Service) -> None:
    service.statuses = {f"/v2/endpoints/{MANAGER}": 404}
    found = placed.findings(service.environment)
    assert found["login"][0] == "ok"
    assert found["service"][0] == "failure"
    assert "404" in found["service"][1]


def test_check_says_that_the_endpoint_is_another_logins(placed: Site, service: Service) -> None:
    service.answer |= {"owner": "11111111-0000-4000-8000-000000000001"}
    kind, text = placed.findings(service.environment)["service"]
    assert kind == "failure"
    assert "11111111-0000-4000-8000-000000000001" in text


def test_check_says_that_the_service_cannot_be_reached(placed: Site, service: Service) -> None:
    service.stop()
    kind, text = placed.findings(service.environment)["login"]
    assert kind == "not looked at"
    assert "can't be reached" in text


def test_check_can_leave_the_service_alone(placed: Site, service: Service) -> None:
    found = placed.findings(service.environment, "--offline")
    assert {found["login"][0], found["service"][0]} == {"not looked at"}
    assert (service.asked, service.logins) == ([], [])


@pytest.mark.cases(1)
@pytest.mark.parametrize("name", ["id", "secret"])
def test_half_a_client_is_no_login(placed: Site, service: Service, name: str) -> None:
    (placed.etc / "client" / name).write_text("\n")
    kind, text = placed.findings(service.environment)["login"]
    assert kind == "failure"
    assert str(placed.etc / "client" / name) in text


def test_without_a_login_nobody_is_asked(placed: Site, service: Service) -> None:
    shutil.rmtree(placed.etc / "client")
    found = placed.findings(service.environment)
    assert found["login"][0] == "warning"
    assert "no login" in found["login"][1]
    assert (service.asked, service.logins) == ([], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which acts for the broker's account")
def test_a_persons_tokens_stay_the_brokers(placed: Site, service: Service) -> None:
    """They may have to be renewed, and root's file in their place would end the broker's login."""
    shutil.rmtree(placed.etc / "client")
    nobody = pwd.getpwnam("nobody")
    path = placed.state / "tokens.json"
    stored = {_AUTH: _token(_AUTH, expires_at=1), _COMPUTE: _token(_COMPUTE, expires_at=2**32)}
    JSONTokenStorage(path).store_token_data_by_resource_server(stored)
    for owned in (placed.state, path, placed.state / "endpoint.json"):
        os.chown(owned, nobody.pw_uid, nobody.pw_gid)
    fresh = {"resource_server": _AUTH, "access_token": "fresh", "refresh_token": "newer", "expires_in": 99999}
    service.tokens = fresh | {"token_type": "Bearer", "scope": "some", "other_tokens": []}
    assert placed.findings(service.environment)["login"][0] == "ok"
    assert [form["grant_type"] for form in service.logins] == ["refresh_token"]
    assert "newer" in path.read_text()
    assert (path.stat().st_uid, path.stat().st_mode & 0o777) == (nobody.pw_uid, 0o600)


_AUTH, _COMPUTE = "auth.globus.org", "funcx_service"


def _token(server: str, expires_at: int) -> TokenStorageData:
    return TokenStorageData(
        resource_server=server,
        identity_id=None,
        scope="some",
        access_token=f"{server}-access",
        refresh_token=f"{server}-refresh",
        expires_at_seconds=expires_at,
        token_type="Bearer",
    )


def test_the_brokers_own_file_is_read(placed: Site) -> None:
    config = placed.etc / "broker.yaml"
    good = config.read_text()
    assert placed.findings({}, "--offline")["broker"][0] == "ok"
    config.write_text(good + "allow_groups: [no-such-group]\n")
    assert "no-such-group" in placed.findings({}, "--offline")["broker"][1]
    config.write_text(good + "alow_groups: []\n")
    kind, text = placed.findings({}, "--offline")["broker"]
    assert kind == "failure"
    assert "did you mean 'allow_groups'" in text


def test_the_brokers_own_file_names_the_program_and_the_socket(placed: Site, tmp_path: Path) -> None:
    policy = tmp_path / "spawner.toml"
    policy.write_text(f'broker_user = "root"\nsocket = "{tmp_path}/s"\n[programs]\nother = ["/bin/true"]\n')
    found = placed.findings({}, "--offline", "--policy", str(policy))
    assert "'endpoint'" in found["policy"][1]
    assert f"{tmp_path}/s" in found["broker"][1]
    config = placed.etc / "broker.yaml"
    config.write_text(config.read_text() + f"program: other\nspawner_socket: {tmp_path}/s\n")
    found = placed.findings({}, "--offline", "--policy", str(policy))
    assert "'other' is /bin/true" in found["endpoint"][1]
    assert found["broker"][0] == "ok"


def test_the_policy_beside_the_brokers_file_is_looked_at(placed: Site) -> None:
    (placed.etc / "spawner.toml").write_text("system_uid = []\n")
    kind, text = placed.findings({}, "--offline")["policy"]
    assert kind == "failure"
    assert f"{placed.etc}/spawner.toml" in text
