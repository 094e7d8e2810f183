"""What the peer's manager leaves open for an endpoint."""

import json
import os

import pytest
from cryptography.fernet import Fernet
from twinlock_endpoint.peer import AuditPipe, SharedCredentials


def test_credentials_are_the_newest_and_none_while_they_are_written() -> None:
    key, fd = Fernet.generate_key(), os.memfd_create("credentials")
    shared = SharedCredentials(fd, key.decode())
    assert shared.read() is None, "no command came since the start"
    for number in (1, 2):
        token = Fernet(key).encrypt(json.dumps({"amqp_creds": {"number": number}}).encode())
        os.ftruncate(fd, 0)
        os.pwrite(fd, token[:20], 0)
        assert shared.read() is None
        os.pwrite(fd, token, 0)
        assert shared.read() == {"number": number}
    os.pwrite(fd, Fernet(Fernet.generate_key()).encrypt(b"{}"), 0)
    assert shared.read() is None, "not by this manager"
    os.close(fd)
    assert shared.read() is None


def test_a_key_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="32"):
        SharedCredentials(0, "short")


def test_each_record_is_a_packet() -> None:
    reader, writer = os.pipe2(os.O_DIRECT)
    pipe = AuditPipe(writer)
    assert pipe.write(["fid=a tid=b bid= RECEIVED", "fid=a tid=b bid= EXEC_START"])
    assert [os.read(reader, 4096) for _ in range(2)] == [b"fid=a tid=b bid= RECEIVED", b"fid=a tid=b bid= EXEC_START"]
    os.close(writer)
    assert not pipe.write(["x"])
    os.close(reader)
