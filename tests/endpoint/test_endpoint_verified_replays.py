"""What whoever has kept signed work can do with it later: nothing runs twice, wherever it is delivered.

Broker, service, queue and network can all keep what the user has signed.
"""

import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, until
from endpoint_tasks import double, note
from verified_rig import THREADS, Host, answer, refusal, submit, works

pytestmark = pytest.mark.system


def test_a_replay_at_the_same_endpoint(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Now and after a restart: it ran once, whatever its uuid is; the user's own repeat isn't answered twice."""
    running = verified()
    session = host.session()
    envelope = session.task(note, str(trace), 1)
    first = submit(queues, envelope)
    assert answer(home, queues, first, envelope) == 1
    for _ in range(2):
        copy = submit(queues, envelope)
        told = refusal(queues, copy)
        assert told.startswith(f"This task is a copy of task {first}, which was accepted before"), "it isn't signed"
        submit(queues, envelope, first)
        works(queues, home, host, session)
        running.signal()
        running.end()
        running = verified()
    submit(queues, envelope, first)
    works(queues, home, host, session)
    until(lambda: queues.waiting_tasks() == 0)
    assert trace.read_text() == "1\n"
    assert len(queues.raw) == len(queues.results)


def test_a_replay_under_another_endpoints_name(
    verified: Callable[..., Running], home: Path, queues: Queues, broker: Any, host: Host, trace: Path
) -> None:
    """A delegation that the first endpoint has taken is good for no other, with a new task neither."""
    verified()
    session = host.session()
    envelope = session.task(note, str(trace), 1)
    assert answer(home, queues, submit(queues, envelope), envelope) == 1
    others = Queues(str(broker.node.url), broker.endpoint_url)
    other = host.start(home, others)
    try:
        for again in (envelope, session.task(note, str(trace), 2)):
            assert "taken by another endpoint before" in refusal(others, submit(others, again))
    finally:
        other.signal(signal.SIGKILL)
        other.end()
        others.close()
    assert trace.read_text() == "1\n"


def test_a_replay_on_another_host(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Where an endpoint of the same uuid has another folder, and so another journal, but the claims are the same."""
    running = verified()
    session = host.session()
    envelope = session.task(note, str(trace), 1)
    task = submit(queues, envelope)
    assert answer(home, queues, task, envelope) == 1
    running.signal()
    running.end()
    host.write("endpoint/user_environment.yaml", f"GLOBUS_COMPUTE_USER_DIR: {home}/elsewhere\n")
    verified()
    for again in (envelope, session.task(note, str(trace), 2)):
        assert "taken by another endpoint before" in refusal(queues, submit(queues, again))
    works(queues, home, host)
    assert trace.read_text() == "1\n"


def test_a_replay_with_the_claims_lost(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Nothing that was delegated before the new folder counts, but for the little by which clocks may differ."""
    old = host.session(issued=int(time.time()) - 301)
    assert not (home / ".local/state/twinlock").exists()
    verified()
    assert "so nobody knows whether it was used" in refusal(queues, submit(queues, old.task(note, str(trace), 1)))
    works(queues, home, host)
    assert not trace.exists()


def test_a_delegation_alone_starts_nothing(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """The service keeps delegations: their options count only with a task that is new."""
    host.write("endpoint/user_config_template.yaml.j2", THREADS + f"endpoint_setup: echo x >> {trace}\n")
    running = verified()
    session = host.session()
    envelope = session.task(double, 1)
    task = submit(queues, envelope)
    assert answer(home, queues, task, envelope) == 2
    running.signal()
    running.end()
    running = verified()
    assert "a copy of task" in str(queues.result(submit(queues, envelope)).data)
    refusal(queues, submit(queues, [*envelope[:2], "{}", "00" * 64]))
    submit(queues, envelope, task)
    until(lambda: f"Task {task} has come before" in running.log())
    assert trace.read_text() == "x\n"


def has_come_before(running: Running, times: int) -> None:
    """That was found out so often, or more often: what isn't acknowledged at an endpoint's end comes again."""
    until(lambda: running.log().count("has come before") >= times)


def test_options_run_once_for_a_task(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Also where no endpoint comes of them: the task has had its turn, whatever endpoint it is delivered to next."""
    host.write("endpoint/user_config_template.yaml.j2", THREADS + f"endpoint_setup: echo x >> {trace}; exit 3\n")
    running = verified()
    session = host.session()
    envelope = session.task(double, 1)
    task = submit(queues, envelope)
    with pytest.raises(RuntimeError, match="endpoint_setup command failed with exit code 3"):
        answer(home, queues, task, envelope)
    for times in (1, 2):
        assert refusal(queues, submit(queues, envelope)).startswith(f"This task is a copy of task {task}")
        submit(queues, envelope, task)
        has_come_before(running, times)
        running.signal(signal.SIGKILL)
        running.end()
        running = verified()
    assert trace.read_text() == "x\n"


def test_many_copies_at_once(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Of a task that is delivered under several uuids while none of them is on disk yet, one runs."""
    running = verified()
    session = host.session()
    works(queues, home, host, session)
    envelope = session.task(note, str(trace), 1)
    tasks = [submit(queues, envelope) for _ in range(20)]
    said = [str(queues.result(task).data) for task in tasks]
    assert sum(text.startswith("This task is a copy of task ") for text in said) == len(tasks) - 1, "none is signed"
    assert trace.read_text() == "1\n"
    assert running.log().count(" is refused: This task is a copy of task ") == len(tasks) - 1
