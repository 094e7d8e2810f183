"""Who is at the other end of a socket."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from twinlock_common.peercred import Peer, peer_of


def test_each_end_knows_the_other(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        assert peer_of(client) == Peer(os.getpid(), os.geteuid())
        listener.accept()[0].close()
        connect = f"import socket; socket.socket(socket.AF_UNIX).connect({path!r})"
        with subprocess.Popen([sys.executable, "-c", connect]) as child, listener.accept()[0] as accepted:
            assert peer_of(accepted) == Peer(child.pid, os.geteuid())


def test_root_is_uid_0() -> None:
    assert Peer(1, 0).is_root
    assert not Peer(1, 65534).is_root
