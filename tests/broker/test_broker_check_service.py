"""What `twinlock check` says about registration and login, and what the service says to it."""

import os
import pwd
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from broker_rest import Service
from broker_rig import MANAGER
from globus_sdk.token_storage import JSONTokenStorage, TokenStorageData
from placed_rig import Site, asked_service, placed_site


@pytest.fixture
def site() -> Iterator[Site]:
    """An endpoint that is registered, with a client's login."""
    with placed_site() as made:
        yield made


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that knows both."""
    with asked_service() as made:
        yield made


def test_check_asks_as_the_installed_client(site: Site, service: Service) -> None:
    found = site.findings(service.environment)
    assert found["registration"] == ("ok", f"endpoint.json: {MANAGER}")
    assert found["login"][0] == found["service"][0] == "ok"
    assert ("GET", f"/v2/endpoints/{MANAGER}", None) in service.asked
    assert {method for method, _, _ in service.asked} == {"GET"}, "nothing is changed"


def test_check_says_that_the_login_is_refused(site: Site, service: Service) -> None:
    service.token_status, service.tokens = 401, {"error": "invalid_client"}
    kind, text = site.findings(service.environment)["login"]
    assert kind == "failure"
    assert "Globus Auth refused the login" in text


def test_check_says_that_the_service_does_not_know_the_endpoint(site: Site, service: Service) -> None:
    service.statuses = {f"/v2/endpoints/{MANAGER}": 404}
    found = site.findings(service.environment)
    assert found["login"][0] == "ok"
    assert found["service"][0] == "failure"
    assert "404" in found["service"][1]


def test_check_says_that_the_endpoint_is_another_logins(site: Site, service: Service) -> None:
    service.answer |= {"owner": "11111111-0000-4000-8000-000000000001"}
    kind, text = site.findings(service.environment)["service"]
    assert kind == "failure"
    assert "11111111-0000-4000-8000-000000000001" in text


def test_check_says_that_the_service_cannot_be_reached(site: Site, service: Service) -> None:
    service.stop()
    kind, text = site.findings(service.environment)["login"]
    assert kind == "not looked at"
    assert "can't be reached" in text


def test_check_can_leave_the_service_alone(site: Site, service: Service) -> None:
    found = site.findings(service.environment, "--offline")
    assert {found["login"][0], found["service"][0]} == {"not looked at"}
    assert (service.asked, service.logins) == ([], [])


@pytest.mark.parametrize("name", ["id", "secret"])
def test_half_a_client_is_no_login(site: Site, service: Service, name: str) -> None:
    (site.etc / "client" / name).write_text("\n")
    kind, text = site.findings(service.environment)["login"]
    assert kind == "failure"
    assert str(site.etc / "client" / name) in text


def test_without_a_login_nobody_is_asked(site: Site, service: Service) -> None:
    shutil.rmtree(site.etc / "client")
    found = site.findings(service.environment)
    assert found["login"][0] == "warning"
    assert "no login" in found["login"][1]
    assert (service.asked, service.logins) == ([], [])


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, which acts for the broker's account")
def test_a_persons_tokens_stay_the_brokers(site: Site, service: Service) -> None:
    """They may have to be renewed, and root's file in their place would end the broker's login."""
    shutil.rmtree(site.etc / "client")
    nobody = pwd.getpwnam("nobody")
    path = site.state / "tokens.json"
    stored = {_AUTH: _token(_AUTH, expires_at=1), _COMPUTE: _token(_COMPUTE, expires_at=2**32)}
    JSONTokenStorage(path).store_token_data_by_resource_server(stored)
    for owned in (site.state, path, site.state / "endpoint.json"):
        os.chown(owned, nobody.pw_uid, nobody.pw_gid)
    fresh = {"resource_server": _AUTH, "access_token": "fresh", "refresh_token": "newer", "expires_in": 99999}
    service.tokens = fresh | {"token_type": "Bearer", "scope": "some", "other_tokens": []}
    assert site.findings(service.environment)["login"][0] == "ok"
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


def test_the_brokers_own_file_is_read(site: Site) -> None:
    config = site.etc / "broker.yaml"
    good = config.read_text()
    assert site.findings({}, "--offline")["broker"][0] == "ok"
    config.write_text(good + "allow_groups: [no-such-group]\n")
    assert "no-such-group" in site.findings({}, "--offline")["broker"][1]
    config.write_text(good + "alow_groups: []\n")
    kind, text = site.findings({}, "--offline")["broker"]
    assert kind == "failure"
    assert "did you mean 'allow_groups'" in text


def test_the_brokers_own_file_names_the_program_and_the_socket(site: Site, tmp_path: Path) -> None:
    policy = tmp_path / "spawner.toml"
    policy.write_text(f'broker_user = "root"\nsocket = "{tmp_path}/s"\n[programs]\nother = ["/bin/true"]\n')
    found = site.findings({}, "--offline", "--policy", str(policy))
    assert "'endpoint'" in found["policy"][1]
    assert f"{tmp_path}/s" in found["broker"][1]
    config = site.etc / "broker.yaml"
    config.write_text(config.read_text() + f"program: other\nspawner_socket: {tmp_path}/s\n")
    found = site.findings({}, "--offline", "--policy", str(policy))
    assert "'other' is /bin/true" in found["endpoint"][1]
    assert found["broker"][0] == "ok"


def test_the_policy_beside_the_brokers_file_is_looked_at(site: Site) -> None:
    (site.etc / "spawner.toml").write_text("min_uidd = 7\n")
    kind, text = site.findings({}, "--offline")["policy"]
    assert kind == "failure"
    assert f"{site.etc}/spawner.toml" in text
