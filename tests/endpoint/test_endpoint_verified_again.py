"""Endpoints in verified mode that find what one before them has left."""

import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from endpoint_rig import Queues, Running, journalled, until
from endpoint_tasks import wait_for
from twinlock_endpoint.journal import frames, records
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import results
from verified_rig import LOCAL, Host, answer, submit

pytestmark = pytest.mark.system


@pytest.mark.cases(1)
@pytest.mark.parametrize("retries", [0, 1])
def test_the_journal_has_the_options_for_the_next_endpoint(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, retries: int
) -> None:
    """It verifies what it finds as of when it was accepted: the delegation has expired since."""
    host.write("endpoint/user_config_template.yaml.j2", LOCAL)
    first = verified()
    now = int(time.time())
    session = host.session(user_endpoint_config={"retries": retries}, expires=now + 20)
    signal_path = str(home / "go")
    envelope = session.task(wait_for, signal_path)
    task = submit(queues, envelope)
    until(lambda: (home / "go.runs").exists())
    first.signal(signal.SIGKILL)
    first.end()
    until(lambda: time.time() > now + 20)
    Path(signal_path).touch()
    second = verified()
    if retries:
        assert answer(home, queues, task, envelope) == "done"
    else:
        with pytest.raises(RuntimeError, match="while it had this task"):
            answer(home, queues, task, envelope)
    assert second.log().count("until one is signed") == 1, "by the first one alone"
    assert (home / "go.runs").read_text() == "x" * (1 + retries)


def test_options_that_fail_after_a_restart_run_once(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """However many tasks of theirs the journal has: the site may have changed its template."""
    host.write("endpoint/user_config_template.yaml.j2", LOCAL)
    first = verified()
    session = host.session()
    for number in range(3):
        submit(queues, session.task(wait_for, str(home / f"go{number}")))
    until(lambda: len(journalled(first)) == 3)
    first.signal(signal.SIGKILL)
    first.end()
    host.write("endpoint/user_config_template.yaml.j2", f"{LOCAL}endpoint_setup: echo x >> {trace}; exit 3\n")
    second = verified()
    until(lambda: second.log().count("until one is signed") == 2)
    assert trace.read_text() == "x\n"


def test_a_recorded_result_needs_no_options(verified: Callable[..., Running], queues: Queues) -> None:
    """It was made when RabbitMQ was away, and the endpoint ended."""
    running = verified()
    queues.heartbeat()
    running.signal()
    running.end()
    task = str(uuid.uuid4())
    made = [records.taken(Task(task, "unknown", b"x"), 1), records.answered(task, results.not_started(task, "example"))]
    journal = running.folder / "journal" / "00000007.journal"
    journal.write_bytes(frames.HEADER + b"".join(part for record in made for part in frames.parts(record)))
    again = verified()
    assert "example" in str(queues.result(task).data)
    until(lambda: not journalled(again))


def test_a_long_log_is_moved_aside_before_there_is_a_task(verified: Callable[..., Running], queues: Queues) -> None:
    """Whoever starts endpoints for nothing doesn't fill a home with their logs."""
    running = verified()
    queues.heartbeat()
    running.signal()
    running.end()
    log = running.folder / "endpoint.log"
    os.truncate(log, (10 << 20) + 1)
    verified()
    queues.heartbeat(last=True)
    queues.heartbeat()
    assert (log.with_name("endpoint.log.1").stat().st_size, log.stat().st_size < 10_000) == ((10 << 20) + 1, True)
