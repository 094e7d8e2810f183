"""Endpoints that can't start: the reason on the pipe to the manager endpoint, and the exit code."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import End, Queues, Running, endpoint_name, run, start

pytestmark = pytest.mark.system

THREADS = "engine: {type: ThreadPoolEngine, max_workers: 1}\n"


def ended(home: Path, queues: Queues, config: str, **document: Any) -> End:
    return start(home, queues, config, **document).end()


def one_paragraph(said: str) -> bool:
    return len(said.strip().splitlines()) == 1 and "Traceback" not in said


def test_started_by_hand(home: Path, queues: Queues) -> None:
    for arguments in ([], ["uep.x.y"], ["../../etc"], [endpoint_name(queues), "more"]):
        end = run(home, queues, b"", *arguments).end()
        assert (end.code, end.left) == (100, [])
        assert "usage: twinlock-endpoint" in end.said


def test_no_document(home: Path, queues: Queues) -> None:
    end = run(home, queues, b"", endpoint_name(queues)).end()
    assert end.code == os.EX_DATAERR
    assert "start document is not JSON" in end.said
    assert one_paragraph(end.said)


def test_a_document_for_another_endpoint(home: Path, queues: Queues) -> None:
    creds = {**queues.creds(), "endpoint_id": "6b1f2f6e-0000-0000-0000-000000000001"}
    end = ended(home, queues, THREADS, amqp_creds=creds)
    assert end.code == os.EX_DATAERR
    assert "for another endpoint" in end.said


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("display_name: x", "no 'engine'"),
        ("engine: {type: NoSuchEngine}", "'NoSuchEngine' is unknown"),
        ("engine: {type: GlobusComputeEngine, provider: {type: SlurmProvidr}}", "did you mean 'SlurmProvider'"),
        (THREADS + "endpoint_setup: 'echo no such module; exit 7'", "exit code 7. It printed: no such module"),
    ],
)
def test_a_configuration_that_cannot_be_used(home: Path, queues: Queues, config: str, said: str) -> None:
    end = ended(home, queues, config)
    assert (end.code, end.left) == (os.EX_CONFIG, [])
    assert said in end.said
    assert one_paragraph(end.said)
    assert str(home) not in end.said


def test_high_assurance_without_encryption(home: Path, queues: Queues) -> None:
    end = ended(home, queues, "engine: {type: GlobusComputeEngine, encrypted: false}", audited=True)
    assert end.code == os.EX_CONFIG
    assert "high assurance endpoint needs 'encrypted: true'" in end.said


def test_an_engine_that_does_not_start(home: Path, queues: Queues) -> None:
    taken = "engine: {type: GlobusComputeEngine, interchange_port_range: [1, 2]}"
    end = ended(home, queues, taken)
    assert (end.code, end.left) == (os.EX_UNAVAILABLE, [])
    assert "engine did not start" in end.said
    assert one_paragraph(end.said)


def test_credentials_that_the_queue_refuses(home: Path, queues: Queues) -> None:
    text = json.dumps(queues.creds())
    creds = json.loads(text.replace("amqp://endpoint:", "amqp://endpoint:wrong"))
    end = ended(home, queues, THREADS, amqp_creds=creds)
    assert (end.code, end.left) == (os.EX_NOPERM, [])
    assert "refused the endpoint's credentials" in end.said
    assert one_paragraph(end.said)


def test_nothing_secret_is_logged(home: Path, queues: Queues) -> None:
    password = queues.creds()["task_queue_info"]["connection_url"].split(":")[2].split("@")[0]
    running: Running = start(home, queues, THREADS + "debug: true")
    queues.heartbeat()
    running.signal()
    end = running.end()
    assert password not in end.said + running.log()
    assert password not in Path(running.folder / "endpoint.json").read_text()
