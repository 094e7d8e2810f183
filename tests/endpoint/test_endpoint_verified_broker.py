"""What a broker that was taken over tries on an endpoint in verified mode: nothing runs, and the log has it.

It writes the start document, sends credentials later, and starts other endpoints under the same name.
"""

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, start, task_body, until
from endpoint_tasks import note
from manager_socket import ManagerSocket
from twinlock_endpoint.journal import frames, records
from twinlock_endpoint.task import Task
from verified_rig import OTHER, THREADS, Host, answer, refusal, submit, works

pytestmark = pytest.mark.system


def variable(name: str) -> str | None:
    import os

    return os.environ.get(name)


def test_a_document_that_says_what_to_run(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Another configuration, variables, functions, an audit by nobody, and a file of credentials."""
    evil = f"engine: {{type: ThreadPoolEngine}}\nendpoint_setup: touch {trace}\nendpoint_teardown: touch {trace}\n"
    running = verified(
        config=evil,
        environment={"BASH_ENV": str(trace), "LD_PRELOAD": "/nonexistent.so", "PYTHONSTARTUP": str(trace), "EVIL": "1"},
        allowed_functions=[],
        restarted=True,
        ep_info={"posix_username": "root"},
        control="/nonexistent/control.sock",
        mem_fd=0,
        enckey="x",
        audit_fd=1,
        audited=False,
    )
    session = host.session()
    for name in ("EVIL", "BASH_ENV", "LD_PRELOAD", "PYTHONSTARTUP"):
        envelope = session.task(variable, name)
        assert answer(home, queues, submit(queues, envelope), envelope) is None
    running.signal()
    assert running.end().code == 0
    assert not trace.exists()


def elsewhere(creds: dict[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Credentials with other URLs for all three queues."""
    names = ("task_queue_info", "result_queue_info", "heartbeat_queue_info")
    changed = {name: creds[name] | {"connection_url": change(creds[name]["connection_url"])} for name in names}
    return creds | changed


QUEUES: list[tuple[Callable[[str], str], str]] = [
    (
        lambda url: url.replace("localhost", "203.0.113.9").replace("127.0.0.1", "203.0.113.9"),
        "isn't among `amqp_hosts`",
    ),
    (lambda url: f"{url}?ssl_options=%7B%27keyfile%27%3A%20%27/etc/passwd%27%7D", "with options; none are allowed"),
    (lambda url: f"{url}?heartbeat=0", "with options; none are allowed"),
]


@pytest.mark.parametrize(("change", "words"), QUEUES)
def test_a_document_with_other_queues(
    verified: Callable[..., Running], queues: Queues, change: Callable[[str], str], words: str
) -> None:
    ended = verified(amqp_creds=elsewhere(queues.creds(), change)).end()
    assert ended.code == os.EX_DATAERR
    assert words in ended.said


def test_later_credentials_with_other_queues(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, control: ManagerSocket
) -> None:
    """They come from the manager endpoint's account, before the endpoint has options and after, and are refused."""
    running = verified()
    for _ in range(2):
        for change, words in QUEUES:
            control.accept()
            before = running.log().count(words)
            control.send({"type": "credentials", "amqp_creds": elsewhere(queues.creds(), change)})
            control.rest()
            assert running.log().count(words) == before + 1
        control.accept()
        works(queues, home, host)


def test_a_control_socket_of_another_account(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, control: ManagerSocket
) -> None:
    host.configure(broker_uid=54321)
    running = verified()
    control.accept()
    assert control.rest() == []
    works(queues, home, host)
    control.accept()
    assert control.rest() == []
    until(lambda: running.log().count("and the manager endpoint runs under 54321") > 1)


def test_the_journal_of_a_plain_endpoint(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Somebody who could start one under this name has left a task there."""
    running = start(home, queues, THREADS)
    queues.heartbeat()
    running.signal()
    running.end()
    task = str(uuid.uuid4())
    kept = records.taken(Task(task, OTHER, task_body(task, note, str(trace), 1)), 0)
    journal = running.folder / "journal" / "00000007.journal"
    journal.write_bytes(frames.HEADER + b"".join(frames.parts(kept)))
    verified()
    works(queues, home, host)
    assert "an endpoint of this name that doesn't verify has accepted it" in refusal(queues, task)
    assert not trace.exists()
