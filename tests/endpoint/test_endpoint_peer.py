"""What the agent's manager leaves open for an endpoint."""

import json
import os
from collections.abc import Callable

import pytest
from cryptography.fernet import Fernet
from endpoint_rig import Queues, Running, value
from twinlock_endpoint.manager.globus import AuditPipe, SharedCredentials


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


def double(number: int) -> int:
    return number * 2


@pytest.mark.system
@pytest.mark.parametrize("audited", [True, False])
def test_a_high_assurance_document_of_the_peers_manager(
    endpoint: Callable[..., Running], queues: Queues, audited: bool
) -> None:
    """It puts a line before the configuration, and leaves the pipe open only where a site has an audit log."""
    reader, writer = os.pipe2(os.O_DIRECT)
    credentials = os.memfd_create("credentials")
    document = {"mem_fd": credentials, "enckey": Fernet.generate_key().decode()}
    given = {**document, "audit_fd": writer} if audited else document
    config = "high_assurance: true\nengine: {type: ThreadPoolEngine, max_workers: 1}\n"
    endpoint(config, fds=(credentials, writer), **given)
    for descriptor in (credentials, writer):
        os.close(descriptor)
    task = queues.submit(double, 2)
    assert value(queues.result(task)) == 4
    if audited:
        packets = [os.read(reader, 4096).decode() for _ in range(3)]
        assert [packet.split("bid= ")[1] for packet in packets] == ["RECEIVED", "EXEC_START", "EXEC_END"]
        assert all(f"tid={task} " in packet for packet in packets)
    os.close(reader)
