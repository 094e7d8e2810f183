"""`list` and `whoami` of an endpoint whose state and login are where the packages put them."""

import os
from pathlib import Path

import pytest
from broker_rest import Service
from broker_rig import ALICE, MANAGER
from placed_rig import Site
from twinlock_broker.config.placed import Placed, find


def test_list_shows_the_uuid_in_the_brokers_state(placed: Site) -> None:
    done = placed.twinlock("list", placed.etc)
    assert (done.returncode, done.stdout.split()) == (0, [MANAGER, str(placed.endpoint)])


def test_list_shows_instances(placed: Site) -> None:
    instance = placed.etc / "instances" / "gpu"
    instance.mkdir(parents=True)
    placed.endpoint.rename(instance / "endpoint")
    (instance / "broker.yaml").write_text(f"state_dir: {placed.state}\n")
    done = placed.twinlock("list", placed.etc)
    assert done.stdout.split() == [MANAGER, str(instance / "endpoint")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: for others nothing is closed here")
def test_list_says_what_it_cannot_read(placed: Site) -> None:
    placed.endpoint.chmod(0o755)
    done = placed.twinlock("list", placed.etc, user="nobody")
    assert (done.returncode, done.stdout.split()) == (os.EX_NOINPUT, ["?", str(placed.endpoint)])
    assert f"{placed.state}/endpoint.json: can't be read: Permission denied" in done.stderr
    placed.endpoint.chmod(0o750)
    done = placed.twinlock("list", placed.etc, user="nobody")
    assert (done.returncode, done.stdout) == (os.EX_NOINPUT, "")
    assert f"{placed.endpoint}: this account may not look into it" in done.stderr


def test_list_says_what_is_broken(placed: Site) -> None:
    (placed.state / "endpoint.json").write_text("{")
    done = placed.twinlock("list", placed.etc)
    assert (done.returncode, done.stdout.split()[0]) == (os.EX_CONFIG, "?")
    assert "endpoint.json" in done.stderr


def test_whoami_takes_the_installed_client(placed: Site, service: Service) -> None:
    done = placed.twinlock("whoami", placed.endpoint, **service.environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["client the-client", f"identity {ALICE}"]


def test_the_packages_places(tmp_path: Path) -> None:
    """As the units in packaging/systemd have them."""
    etc = tmp_path / "twinlock"
    first, instance = etc / "endpoint", etc / "instances" / "gpu" / "endpoint"
    for folder in (first, instance):
        folder.mkdir(parents=True)
        (folder.parent / "broker.yaml").write_text(f"endpoint_dir: {first}\n")
    packaged = find(first, environ={})
    assert packaged == Placed(Path("/var/lib/twinlock"), etc / "broker.yaml")
    assert (packaged.client, packaged.spawner_socket) == (etc / "client", None)
    second = find(instance, environ={})
    assert second == Placed(Path("/var/lib/twinlock-instances/gpu"), instance.parent / "broker.yaml")
    assert (second.client, second.spawner_socket) == (instance.parent / "client", Path("/run/twinlock/gpu.sock"))
    assert find(first, tmp_path, {}).state == tmp_path
    assert find(first, environ={"STATE_DIRECTORY": "/a:/b"}).state == Path("/a")


def test_a_folder_that_no_brokers_file_names(tmp_path: Path) -> None:
    folder = tmp_path / "endpoint"
    folder.mkdir()
    assert find(folder, environ={}) == Placed(folder)
    for text in ("endpoint_dir: /elsewhere\n", "{", "- x\n", "endpoint_dir: 7\n"):
        (tmp_path / "broker.yaml").write_text(text)
        assert find(folder, environ={}) == Placed(folder)


def test_login_leaves_the_tokens_where_the_broker_looks(placed: Site, service: Service) -> None:
    token = {"access_token": "a", "refresh_token": "r", "expires_in": 99999, "token_type": "Bearer", "scope": "some"}
    auth, compute = (token | {"resource_server": name} for name in ("auth.globus.org", "funcx_service"))
    service.tokens = auth | {"other_tokens": [compute]}
    done = placed.twinlock("login", placed.endpoint, stdin="the-code\n", **service.environment)
    assert done.returncode == 0, done.stderr
    assert (placed.state / "tokens.json").exists()


def test_a_pipe_in_the_state_is_not_waited_for(placed: Site) -> None:
    (placed.state / "endpoint.json").unlink()
    os.mkfifo(placed.state / "endpoint.json")
    done = placed.twinlock("list", placed.etc)
    assert (done.returncode, done.stdout.split()[0]) == (0, "-")
