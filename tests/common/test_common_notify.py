"""systemd's readiness."""

import os
import socket
from pathlib import Path

import pytest
from twinlock_common.notify import notify


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
