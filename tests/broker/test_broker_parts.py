"""The small parts: blocking calls off the loop, the sealed document, systemd's readiness."""

import json
import os
import socket
import threading
from pathlib import Path

import pytest
from broker_rig import amqp_creds
from twinlock_broker.identity.mapping import Match
from twinlock_broker.notify import notify
from twinlock_broker.offload import Offload
from twinlock_broker.rendering.document import Document
from twinlock_broker.secret import Secret


async def test_a_call_gives_what_it_returns_or_raises() -> None:
    offload = Offload("test", 1)
    assert await offload.run(60, threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await offload.run(60, lambda: 1 // 0)
    assert await offload.run(60, lambda: 2) == 2


async def test_a_hung_call_keeps_its_place_until_it_ends() -> None:
    offload, release = Offload("test", 1), threading.Event()
    with pytest.raises(TimeoutError):
        await offload.run(0.05, release.wait)
    with pytest.raises(TimeoutError):
        await offload.run(0.05, lambda: 1)
    release.set()
    assert await offload.run(60, lambda: 1) == 1


def test_a_document_is_sealed_and_complete() -> None:
    match = Match("ada", "some-uuid", [[{"some-uuid": ["ada"]}]])
    fd = Document(Secret(amqp_creds()), "engine: {}", match, ("f",), {"A": "b"}).seal(
        parent=42, further={"restarted": True}
    )
    try:
        for write in (lambda: os.pwrite(fd, b"x", 0), lambda: os.ftruncate(fd, 0)):
            with pytest.raises(PermissionError):
                write()
        found = json.loads(os.read(fd, 1 << 20))
    finally:
        os.close(fd)
    assert found == {
        "amqp_creds": amqp_creds(),
        "config": "engine: {}",
        "ep_info": {
            "posix_ppid": 42,
            "globus_candidate_identities": [[{"some-uuid": ["ada"]}]],
            "globus_matched_identity": "some-uuid",
        },
        "allowed_functions": ["f"],
        "environment": {"A": "b"},
        "restarted": True,
    }


def test_a_document_without_a_mapping() -> None:
    fd = Document(Secret({}), "x", Match("me"), None, {}).seal(parent=1, further={})
    found = json.loads(os.read(fd, 1 << 20))
    os.close(fd)
    assert found["ep_info"] == {"posix_ppid": 1}
    assert "allowed_functions" not in found


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool) -> None:
    address = f"@twl-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.bind(address.replace("@", "\0"))
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        notify("READY=1")
        assert sock.recv(100) == b"READY=1"
    notify("READY=1")  # nobody listens any more, which is no error
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
