"""The sealed document."""

import json
import os

import pytest
from broker_rig import amqp_creds
from twinlock_broker.identity.mapping import Match
from twinlock_broker.rendering.document import Document
from twinlock_broker.secret import Secret


def test_a_document_is_sealed_and_complete() -> None:
    match = Match("ada", "some-uuid", [[{"some-uuid": ["ada"]}]])
    fd = Document(Secret(amqp_creds()), "engine: {}", match, ("f",), {"A": "b"}).seal(
        parent=42, further={"restarted": True}, request="3f9a1c07"
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
            "twinlock_request": "3f9a1c07",
            "globus_candidate_identities": [[{"some-uuid": ["ada"]}]],
            "globus_matched_identity": "some-uuid",
        },
        "allowed_functions": ["f"],
        "environment": {"A": "b"},
        "restarted": True,
    }


def test_the_person_for_batch_jobs_is_where_earlier_endpoints_accept_it() -> None:
    fd = Document(Secret({}), "x", Match("me"), None, {}, "ada@uni.example").seal(parent=1, further={})
    found = json.loads(os.read(fd, 1 << 20))
    os.close(fd)
    assert found["ep_info"] == {"posix_ppid": 1, "job_person": "ada@uni.example"}
    assert found.keys() == {"amqp_creds", "config", "ep_info", "environment"}


def test_a_document_without_a_mapping() -> None:
    fd = Document(Secret({}), "x", Match("me"), None, {}).seal(parent=1, further={})
    found = json.loads(os.read(fd, 1 << 20))
    os.close(fd)
    assert found["ep_info"] == {"posix_ppid": 1}
    assert "allowed_functions" not in found
