"""`twinlock delete` and `twinlock logout`: what they take away, and when they take nothing away."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from broker_process import NOBODY, broker_place, running_spawner
from broker_rest import Service, rest_service
from broker_rig import MANAGER, UEP
from spawner_rig import uep
from twinlock_broker.config.lock import locked

TWINLOCK = Path(sys.executable).with_name("twinlock")
SERVERS = ("funcx_service", "auth.globus.org")
TOKENS = {f"{server}-{kind}" for server in SERVERS for kind in ("access", "refresh")}

SPAWN = """
import fcntl, os, socket, sys
from twinlock_wire import wire
sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
sock.settimeout(60)
sock.connect(sys.argv[1])
for _ in wire.VERSIONS:
    sock.recv(65536)
reader, writer = os.pipe()
document = os.memfd_create("document", os.MFD_ALLOW_SEALING)
fcntl.fcntl(document, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK)
name = sys.argv[2]
socket.send_fds(sock, [wire.encode(wire.Spawn(name.split(".")[2], "daemon", name, "sleep"))], [document, writer])
answer = wire.decode(sock.recv(65536), wire.REPLIES)
assert isinstance(answer, wire.Spawned), answer
os.read(reader, 10)  # it has written what it writes: nobody reads it from now on
"""
"""Starts an endpoint of the account daemon, as the broker that was there before."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, since the state folder is another account's")


def token(server: str) -> dict[str, Any]:
    """One token, as Globus Auth gives it to a person."""
    kind = {"token_type": "Bearer", "scope": "some scopes", "expires_in": 99999}
    return kind | {"resource_server": server, "access_token": f"{server}-access", "refresh_token": f"{server}-refresh"}


class Host:
    """An endpoint's folder and the broker's state folder, which belongs to the account nobody."""

    def __init__(self, place: Path, service: Service) -> None:
        self.place = place
        self.folder = place / "ep"
        self.state = place / "state"
        self.service = service
        self.login = {"GLOBUS_COMPUTE_CLIENT_ID": MANAGER, "GLOBUS_COMPUTE_CLIENT_SECRET": "the-client-secret"}

    def twinlock(
        self, *words: str | Path, stdin: str = "", within: Sequence[str] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """The command's outcome. `within` are words before it, such as setpriv's."""
        argv: list[str | Path] = [*within, TWINLOCK, *words]
        environment = {"PATH": "/usr/bin:/bin", **self.login, **self.service.environment}
        return subprocess.run(
            argv, input=stdin, env=environment, capture_output=True, text=True, timeout=120, check=False
        )

    def delete(
        self, *words: str, stdin: str = "", spawner: Path = Path("/nonexistent"), within: Sequence[str] = ()
    ) -> "subprocess.CompletedProcess[str]":
        """`twinlock delete`, where no spawner runs unless it is named."""
        paths = ("--state", self.state, "--spawner-socket", spawner, self.folder)
        return self.twinlock("delete", *words, *paths, stdin=stdin, within=within)

    def logout(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """`twinlock logout`."""
        return self.twinlock("logout", *words, "--state", self.state)

    def register(self) -> None:
        """Have the broker's state be that of an endpoint that has run."""
        self.write("endpoint.json", json.dumps({"endpoint_id": MANAGER}))
        for name in ("endpoints", "notices"):
            (self.state / name).mkdir()
            shutil.chown(self.state / name, "nobody", "nogroup")
            self.write(f"{name}/{UEP}.json", "{}")

    def log_in(self) -> None:
        """Have a person be logged in, not a client."""
        self.login = {}
        self.service.tokens = token(SERVERS[0]) | {"other_tokens": [token(SERVERS[1])]}
        done = self.twinlock("login", "--state", self.state, self.folder, stdin="the-code\n")
        assert done.returncode == 0, done.stderr
        shutil.chown(self.state / "tokens.json", "nobody", "nogroup")

    def write(self, name: str, text: str) -> None:
        """A file of the broker's."""
        (self.state / name).write_text(text)
        shutil.chown(self.state / name, "nobody", "nogroup")

    def asked(self) -> list[tuple[str, str]]:
        """What the service was asked for."""
        return [(method, path) for method, path, _ in self.service.asked]


@pytest.fixture
def host() -> Iterator[Host]:
    """One whose endpoint has run."""
    with broker_place() as place, rest_service("amqp://127.0.0.1:1", MANAGER) as service:
        made = Host(place, service)
        made.register()
        yield made


def test_delete_takes_the_endpoint_from_the_service_and_the_host(host: Host) -> None:
    (host.folder / "user_environment.yaml").write_text("TZ: UTC")
    host.write("admission.json", "{}")
    done = host.delete("--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{MANAGER}: deleted\n", "")
    assert host.asked()[-1] == ("DELETE", f"/v2/endpoints/{MANAGER}")
    assert not host.folder.exists()
    assert list(host.state.iterdir()) == []


def test_what_isnt_the_endpoints_stays(host: Host) -> None:
    (host.folder / "notes.txt").write_text("mine")
    elsewhere = host.place / "mapping-of-all.json"
    (host.folder / "map.json").rename(elsewhere)
    (host.folder / "config.yaml").write_text(f"identity_mapping_config_path: {elsewhere}")
    host.log_in()
    done = host.delete("--yes")
    left = f"left in {host.folder}, to be removed if nobody needs it: notes.txt"
    assert (done.returncode, done.stdout.splitlines()[1:]) == (0, [left])
    assert [path.name for path in host.folder.iterdir()] == ["notes.txt"]
    assert elsewhere.exists()
    assert [path.name for path in host.state.iterdir()] == ["tokens.json"], "the login may be of use for another"


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("answer", "gone"), [("", False), ("\n", False), ("y\n", True), ("n\n", False), ("Yes\n", True)]
)
def test_delete_asks_first(host: Host, answer: str, gone: bool) -> None:
    done = host.delete(stdin=answer)
    assert f"Delete endpoint {MANAGER} with {host.folder}? [y/N]" in done.stdout
    assert done.returncode == (0 if gone else os.EX_NOPERM)
    assert host.folder.exists() is not gone
    assert bool(host.asked()) is gone


def test_delete_refuses_while_the_broker_runs(host: Host) -> None:
    with locked(host.state):
        shutil.chown(host.state / "broker.lock", "nobody", "nogroup")
        done = host.delete("--yes", "--force")
    assert (done.returncode, "is in use by another twinlock-broker" in done.stderr) == (os.EX_TEMPFAIL, True)
    assert (host.folder.exists(), host.asked()) == (True, [])


def test_delete_refuses_while_an_endpoint_runs(host: Host) -> None:
    name = f"uep.{MANAGER}.{uep(1)}"
    with running_spawner(host.place, {"broker_user": "nobody", "system_uids": []}) as spawner:
        subprocess.run([*NOBODY, sys.executable, "-c", SPAWN, spawner.socket, name], timeout=60, check=True)
        done = host.delete("--yes", "--force", spawner=spawner.socket)
    running = f"user endpoints are still running: {uep(1)} of daemon; "
    assert (done.returncode, running in done.stderr) == (os.EX_TEMPFAIL, True)
    assert (host.folder.exists(), host.asked()) == (True, [])


@pytest.mark.cases(1)
@pytest.mark.parametrize(("status", "code"), [(404, os.EX_UNAVAILABLE), (403, os.EX_NOPERM), (500, os.EX_TEMPFAIL)])
def test_what_the_service_refuses_stays_unless_it_is_forced(host: Host, status: int, code: int) -> None:
    host.service.status = status
    done = host.delete("--yes")
    assert (done.returncode, "Nothing was changed; --force removes the files" in done.stderr) == (code, True)
    assert host.folder.exists()
    assert (host.state / "endpoint.json").exists()
    done = host.delete("--yes", "--force")
    assert (done.returncode, "the service still knows the endpoint" in done.stderr) == (0, True)
    assert not host.folder.exists()


def test_an_endpoint_that_is_online_elsewhere_stays(host: Host) -> None:
    host.service.answer = {"status": "online", "details": {}}
    done = host.delete("--yes")
    assert (done.returncode, "the service says that the endpoint is online" in done.stderr) == (os.EX_TEMPFAIL, True)
    assert host.asked() == [("GET", f"/v2/endpoints/{MANAGER}/status")]
    assert host.folder.exists()
    assert host.delete("--yes", "--force").returncode == 0
    assert not host.folder.exists()


def test_an_endpoint_without_a_uuid_is_deleted_only_if_it_is_forced(host: Host) -> None:
    """Most often somebody forgot --state, and its broker runs."""
    (host.state / "endpoint.json").unlink()
    done = host.delete("--yes")
    assert (done.returncode, "name the broker's state folder with --state" in done.stderr) == (os.EX_NOINPUT, True)
    assert host.folder.exists()
    done = host.delete("--yes", "--force")
    assert (done.returncode, done.stdout) == (0, "ep: deleted\n")
    assert (host.asked(), host.folder.exists()) == ([], False)


def test_what_is_no_endpoints_folder_is_left_alone(host: Host) -> None:
    (host.folder / "config.yaml").unlink()
    done = host.delete("--yes", "--force")
    assert (done.returncode, "not an endpoint's folder" in done.stderr) == (os.EX_NOINPUT, True)
    assert (host.folder / "map.json").exists()


def test_who_may_not_remove_the_folder_deletes_nothing(host: Host) -> None:
    done = host.delete("--yes", within=NOBODY)
    assert (done.returncode, "can't be removed by this account; try sudo" in done.stderr) == (os.EX_CANTCREAT, True)
    assert (host.asked(), (host.state / "endpoint.json").exists()) == ([], True)


@pytest.mark.parametrize("name", ["endpoints", "endpoint.json"])
def test_root_follows_no_link_of_the_brokers_account(host: Host, name: str) -> None:
    victim = host.place / "victim"
    victim.mkdir()
    (victim / "file").write_text(json.dumps({"endpoint_id": MANAGER}))
    kept = host.state / name
    if kept.is_dir():
        shutil.rmtree(kept)
        kept.symlink_to(victim)
    else:
        kept.unlink()
        kept.symlink_to(victim / "file")
    host.delete("--yes", "--force")
    assert (victim / "file").exists()


def test_files_of_the_state_folder_stay_their_owners(host: Host) -> None:
    """Or the broker couldn't use them any more."""
    host.log_in()
    host.service.status = 403
    assert host.delete("--yes").returncode == os.EX_NOPERM
    assert {path.owner() for path in host.state.rglob("*")} == {"nobody"}


def test_logout_revokes_every_token_and_removes_them(host: Host) -> None:
    host.log_in()
    done = host.logout()
    assert (done.returncode, done.stdout) == (0, f"logged out; {host.state / 'tokens.json'} was removed\n")
    assert set(host.service.revoked) == TOKENS
    assert not (host.state / "tokens.json").exists()
    done = host.logout()
    assert (done.returncode, "nobody is logged in there" in done.stderr) == (os.EX_NOPERM, True)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("status", "code"), [(401, os.EX_NOPERM), (None, os.EX_TEMPFAIL)])
def test_a_login_that_isnt_revoked_stays(host: Host, status: int | None, code: int) -> None:
    host.log_in()
    before = (host.state / "tokens.json").read_bytes()
    if status is None:
        host.service.stop()
    else:
        host.service.token_status = status
    done = host.logout()
    assert (done.returncode, "run twinlock logout again" in done.stderr) == (code, True)
    assert (host.state / "tokens.json").read_bytes() == before


def test_logout_refuses_while_the_broker_runs_unless_it_is_forced(host: Host) -> None:
    host.log_in()
    with locked(host.state):
        shutil.chown(host.state / "broker.lock", "nobody", "nogroup")
        assert (host.logout().returncode, host.service.revoked) == (os.EX_TEMPFAIL, [])
        assert host.logout("--force").returncode == 0
    assert set(host.service.revoked) == TOKENS


def test_logout_needs_to_know_whose_login(host: Host) -> None:
    done = host.twinlock("logout")
    assert (done.returncode, "whose login?" in done.stderr) == (os.EX_USAGE, True)


def test_a_broken_login_says_what_to_remove(host: Host) -> None:
    host.write("tokens.json", "{")
    done = host.logout()
    assert (done.returncode, "remove it, and revoke the consent at" in done.stderr) == (os.EX_CANTCREAT, True)


def test_a_state_folder_that_isnt_there_is_named(host: Host) -> None:
    host.state = host.place / "nowhere"
    for done in (host.delete("--yes"), host.logout()):
        assert (done.returncode, "name the broker's state folder with --state" in done.stderr) == (os.EX_NOINPUT, True)
