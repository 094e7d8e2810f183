"""The small parts: blocking calls off the loop, the first output, the sealed document, systemd's readiness."""

import asyncio
import json
import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from broker_rig import amqp_creds
from twinlock_broker.endpoints.output import KEPT, Output
from twinlock_broker.identity.mapping import Match
from twinlock_broker.notify import notify
from twinlock_broker.offload import Offload
from twinlock_broker.rendering.document import Document
from twinlock_broker.secret import Secret


async def test_a_call_gives_what_it_returns_or_raises() -> None:
    offload = Offload("test", 1)
    assert await offload.run(10, threading.get_ident) != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await offload.run(10, lambda: 1 // 0)
    assert await offload.run(10, lambda: 2) == 2


async def test_a_hung_call_keeps_its_place_until_it_ends() -> None:
    offload, release = Offload("test", 1), threading.Event()
    with pytest.raises(TimeoutError):
        await offload.run(0.05, release.wait)
    with pytest.raises(TimeoutError):
        await offload.run(0.05, lambda: 1)
    release.set()
    assert await offload.run(10, lambda: 1) == 1


async def test_an_output_keeps_its_end_and_drives_no_terminal(tmp_path: Path) -> None:
    output = Output(tmp_path / "o")
    os.write(output.writer, b"x" * KEPT + b"\x1b[31mred\x1b[0m\x07 \xff\r\nlast\n")
    output.close_writer()
    text = output.finish()
    assert text.endswith("red \ufffd\nlast")
    assert len(text) <= KEPT
    assert output.closed_at is not None


async def test_an_output_shows_no_login(tmp_path: Path) -> None:
    output = Output(tmp_path / "o")
    os.write(output.writer, b"can't reach amqps://u:p%40w@host:443/v of https://host/a@b")
    output.close_writer()
    assert output.finish() == "can't reach amqps://<secret>@host:443/v of https://host/a@b"


async def test_an_output_is_read_while_it_is_written(tmp_path: Path) -> None:
    output = Output(tmp_path / "o")
    data = b"y" * 300_000  # more than a pipe holds
    await asyncio.wait_for(asyncio.to_thread(_write_all, output.writer, data), 60)
    assert output.closed_at is None
    output.close_writer()
    assert output.finish() == "y" * KEPT


async def test_an_output_that_never_ends_holds_up_nobody(tmp_path: Path) -> None:
    output = Output(tmp_path / "o")
    writing = subprocess.Popen(["/bin/cat", "/dev/zero"], stdout=output.writer)
    output.close_writer()
    try:
        await asyncio.wait_for(asyncio.sleep(0.2), 60)  # its reading leaves the loop to others
        output.finish()
        assert not (tmp_path / "o").exists()
    finally:
        writing.kill()
        writing.wait()


async def test_an_output_for_which_the_disk_has_no_room_works(tmp_path: Path) -> None:
    output = Output(tmp_path / "not a folder" / "o")
    os.write(output.writer, b"last words")
    output.close_writer()
    assert output.finish() == "last words"


async def test_an_output_is_listened_to_again(tmp_path: Path) -> None:
    first = Output(tmp_path / "o")
    second = Output(tmp_path / "o", made=False)
    assert second.reopen()
    os.write(first.writer, b"from the first start, ")
    os.write(second.writer, b"from the second")
    first.close_writer()
    second.close_writer()
    assert second.finish() == "from the first start, from the second"
    assert not second.reopen()
    first.finish()


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


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
