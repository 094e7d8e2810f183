"""Registration by globus-sdk, against an HTTP server that answers as the service and Globus Auth do."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_rest import Service, rest_service
from broker_rig import ALICE, MANAGER, UEP, make_folder
from twinlock_broker.compute import own_identities
from twinlock_broker.compute.login import ClientLogin
from twinlock_broker.compute.registration import identities, register
from twinlock_broker.config.folder import Folder
from twinlock_broker.errors import Fatal
from twinlock_broker.secret import Secret

URL = "amqp://mep:hush@127.0.0.1:5672/v"
LOGIN = ClientLogin(MANAGER, Secret("the-client-secret"))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[Service]:
    with rest_service(URL) as made:
        for name, url in made.environment.items():
            monkeypatch.setenv(name, url)
        yield made


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    config = f"display_name: Our site\nallowed_functions: [{UEP}]\npublic: true\namqp_port: 443"
    return make_folder(tmp_path / "site-ep", config, user_config_schema__json='{"type": "object"}')


def test_a_new_endpoint(service: Service, folder: Folder) -> None:
    found = register(folder, None, LOGIN)
    assert found.endpoint_id == UEP
    assert (found.commands.queue, found.commands.url.reveal()) == ("cmds", URL.replace("5672", "443"))
    assert (found.heartbeats.exchange, found.heartbeats.routing_key) == ("ep", "beats")
    [(method, path, body)] = service.asked
    assert (method, path) == ("POST", "/v3/endpoints")
    metadata = body.pop("metadata")
    assert body == {
        "endpoint_name": "site-ep",
        "display_name": "Our site",
        "multi_user": True,
        "public": True,
        "high_assurance": False,
        "allowed_functions": [UEP],
    }
    assert metadata.keys() == {
        "endpoint_version",
        "python_version",
        "hostname",
        "local_user",
        "endpoint_config",
        "user_config_template",
        "user_config_schema",
    }
    assert metadata["endpoint_config"] == folder.source
    assert metadata["user_config_schema"] == {"type": "object"}


def test_a_known_endpoint(service: Service, folder: Folder) -> None:
    register(folder, UEP, LOGIN)
    assert service.asked[0][:2] == ("PUT", f"/v3/endpoints/{UEP}")
    with pytest.raises(Fatal, match=f"{UEP} in place of {MANAGER}") as ended:
        register(folder, MANAGER, LOGIN)
    assert ended.value.status == os.EX_SOFTWARE


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, os.EX_DATAERR),
        (422, os.EX_DATAERR),
        (401, os.EX_NOPERM),
        (403, os.EX_NOPERM),
        (404, os.EX_UNAVAILABLE),
        (409, os.EX_UNAVAILABLE),
        (423, os.EX_UNAVAILABLE),
        (418, os.EX_TEMPFAIL),
        (520, os.EX_TEMPFAIL),
    ],
)
def test_refusals(service: Service, folder: Folder, status: int, code: int) -> None:
    service.status = status
    service.answer = {"status": "Failed", "code": 1, "reason": "because", "http_status_code": status}
    with pytest.raises(Fatal) as ended:
        register(folder, None, LOGIN)
    assert ended.value.status == code
    for word in (str(status), "because", "site-ep"):
        assert word in str(ended.value)
    assert "the-client-secret" not in str(ended.value)


def test_no_network(service: Service, folder: Folder) -> None:
    service.stop()
    with pytest.raises(Fatal, match="can't be reached") as ended:
        register(folder, None, LOGIN)
    assert ended.value.status == os.EX_TEMPFAIL


@pytest.mark.parametrize(
    "answer", [{}, [], {"endpoint_id": UEP}, {"endpoint_id": "x"}, {"endpoint_id": UEP, "command_queue_info": 1}]
)
def test_a_broken_answer(service: Service, folder: Folder, answer: Any) -> None:
    service.answer = answer
    with pytest.raises(Fatal) as ended:
        register(folder, None, LOGIN)
    assert ended.value.status == os.EX_SOFTWARE


def test_an_environment_that_globus_sdk_doesnt_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOBUS_SDK_SERVICE_URL_AUTH", raising=False)
    with pytest.raises(Fatal, match="environment") as ended:
        register(make_folder(tmp_path / "ep", "environment: moon"), None, LOGIN)
    assert ended.value.status == os.EX_CONFIG


def test_who_the_login_is(service: Service, folder: Folder) -> None:
    service.answer = {"sub": UEP, "identity_set": [{"sub": UEP}, {"sub": ALICE}]}
    assert identities(folder, LOGIN) == {UEP, ALICE}
    service.answer = {"sub": UEP}
    assert identities(folder, LOGIN) == {UEP}
    service.answer = {}
    with pytest.raises(Fatal, match="the login is broken") as ended:
        identities(folder, LOGIN)
    assert ended.value.status == os.EX_SOFTWARE


async def test_a_globus_auth_that_never_answers_ends_with_75(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("GLOBUS_SDK_SERVICE_URL_AUTH", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(own_identities, "LIMIT", 0.5)
        with pytest.raises(Fatal, match="Globus Auth didn't list the login's identities within") as ended:
            await own_identities.own_identities(folder, LOGIN)
    assert ended.value.status == os.EX_TEMPFAIL
