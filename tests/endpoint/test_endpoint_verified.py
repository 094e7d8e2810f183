"""Verified mode as users and administrators see it: signed work runs, results are signed, errors say what to do."""

import json
import os
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running, journalled, until
from endpoint_tasks import double, wait_for
from twinlock_endpoint.journal import frames, records
from twinlock_endpoint.task import Task
from twinlock_endpoint.tasks import results
from verified_rig import THREADS, USER, Host, answer, refusal, submit

pytestmark = pytest.mark.system

LOCAL = """
engine:
  type: GlobusComputeEngine
  max_workers_per_node: 1
  address: 127.0.0.1
  max_retries_on_system_failure: {{ retries | default(0) }}
  provider: {type: LocalProvider, max_blocks: 1}
heartbeat_period: 5
"""


def surroundings(name: str) -> dict[str, Any]:
    import os
    import sys

    return {"isolated": sys.flags.isolated, "value": os.environ.get(name), "task": os.environ.get("GC_TASK_UUID")}


def fail() -> None:
    raise ValueError("what the function says")


@pytest.mark.parametrize("template", [THREADS, LOCAL, "engine: {type: ProcessPoolEngine, max_workers: 1}\n"])
def test_signed_work_runs_and_its_result_is_signed(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, template: str
) -> None:
    host.write("endpoint/user_config_template.yaml.j2", template)
    running = verified()
    session = host.session()
    for number in (4, 5):
        envelope = session.task(double, number)
        assert answer(home, queues, submit(queues, envelope), envelope) == 2 * number
    envelope = session.task(surroundings, "GC_USER_PYTHON_VERSION")
    assert answer(home, queues, submit(queues, envelope), envelope)["value"] == "3.12.1", "as the delegation says"
    envelope = session.task(fail)
    with pytest.raises(RuntimeError, match="what the function says"):
        answer(home, queues, submit(queues, envelope), envelope)
    running.signal()
    ended = running.end()
    assert (ended.code, ended.left, ended.said) == (0, [], "")


def test_it_is_online_before_there_is_a_task_and_says_when_it_ends(
    verified: Callable[..., Running], queues: Queues
) -> None:
    running = verified()
    beat = queues.heartbeat()
    assert beat["active"]
    assert "engine_type" not in beat
    running.signal()
    assert queues.heartbeat(last=True)["heartbeat_period"] == 0
    assert running.end().code == 0


def test_options_and_roots_files(verified: Callable[..., Running], home: Path, queues: Queues, host: Host) -> None:
    """The delegation's options in root's template, with root's schema and environment, in an isolated Python."""
    host.write(
        "endpoint/user_config_template.yaml.j2",
        THREADS.replace("max_workers: 2", "max_workers: {{ workers }}") + "display_name: {{ _GC.env.SITE_NAME }}\n",
    )
    host.write("endpoint/user_config_schema.json", json.dumps({"properties": {"workers": {"maximum": 4}}}))
    host.write("endpoint/user_environment.yaml", "SITE_NAME: here\nLD_BIND_NOW: 1\nLC_CTYPE: C\n")
    running = verified()
    session = host.session(user_endpoint_config={"workers": 3})
    envelope = session.task(surroundings, "SITE_NAME")
    task = submit(queues, envelope)
    assert answer(home, queues, task, envelope) == {"isolated": 1, "value": "here", "task": task}
    assert queues.figures()["total_workers"] == 3
    assert json.loads((running.folder / "endpoint.json").read_text())["display_name"] == "here"


@pytest.mark.parametrize(
    ("template", "options", "words"),
    [
        ("engine: {type: {{ kind }}}", {}, "The endpoint's template needs the option 'kind'"),
        ("a: {{ parent_config.x }}", {}, "uses 'parent_config', which isn't known in verified mode"),
        ("a: {{ _GC.mapped_identity.globus.id }}", {}, "uses 'globus', which isn't known in verified mode"),
        (LOCAL.replace("engine:\n", "engine:\n  encrypted: false\n"), {}, "verified mode needs 'encrypted: true'"),
        (THREADS + "amqp_port: 443\n", {}, "has 'amqp_port', which an endpoint in verified mode would need before"),
        (THREADS + f"allowed_functions: [{uuid.UUID(int=2)}]\n", {}, "use `allowed_functions` of verified.toml"),
        (THREADS + "endpoint_setup: exit 3\n", {}, "endpoint_setup command failed with exit code 3"),
        ("engine: {type: Nonsense}", {}, "The engine type 'Nonsense' is unknown"),
        ("{% for _ in range(100000) %}{{ 'x' * 1000 }}{% endfor %}", {}, "The configuration got longer than"),
    ],
)
def test_options_that_make_no_endpoint_are_told_to_their_task(
    verified: Callable[..., Running],
    home: Path,
    queues: Queues,
    host: Host,
    template: str,
    options: dict[str, Any],
    words: str,
) -> None:
    """In a signed result; and the next options may make one."""
    host.write("endpoint/user_config_template.yaml.j2", template)
    verified()
    envelope = host.session(user_endpoint_config=options).task(double, 1)
    with pytest.raises(RuntimeError, match=words):
        answer(home, queues, submit(queues, envelope), envelope)
    host.write("endpoint/user_config_template.yaml.j2", THREADS)
    envelope = host.session(user_endpoint_config={"other": 1}).task(double, 2)
    assert answer(home, queues, submit(queues, envelope), envelope) == 4


def test_plain_work_gets_a_sentence_that_says_what_to_change(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host
) -> None:
    """Before and after the endpoint has options."""
    verified()
    session = host.session()
    for _ in range(2):
        said = refusal(queues, queues.submit(double, 1))
        assert "pip install twinlock-client" in said
        assert f'SignedExecutor(endpoint_id, user="{USER}"' in said
        envelope = session.task(double, 2)
        assert answer(home, queues, submit(queues, envelope), envelope) == 4


def test_only_functions_that_root_allows(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host
) -> None:
    host.configure(allowed_functions=[host.digest(double)])
    verified()
    session = host.session()
    first, second = session.task(double, 1), session.task(fail)
    assert answer(home, queues, submit(queues, first), first) == 2
    told = refusal(queues, submit(queues, second))
    assert told.startswith(f"The function isn't allowed here: its SHA-256 is {host.digest(fail)}")


def test_a_second_session_with_the_same_options_goes_to_the_same_endpoint(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host
) -> None:
    verified()
    for options in ({"b": 1, "a": [1, "x"]}, {"a": [1, "x"], "b": 1}):
        envelope = host.session(user_endpoint_config=options).task(double, 1)
        assert answer(home, queues, submit(queues, envelope), envelope) == 2
    other = host.session(user_endpoint_config={"a": [1, "x"], "b": True}).task(double, 1)
    told = refusal(queues, submit(queues, other))
    assert told.startswith("The task is signed for other options than this endpoint has"), "that isn't signed"


def test_a_large_task_and_a_large_result(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host
) -> None:
    """Those are verified, and signed, beside the loop."""
    verified()
    session, text = host.session(), "\u00e9" * 1_000_000
    for size in (1, len(text)):
        envelope = session.task(double, text[:size])
        assert answer(home, queues, submit(queues, envelope), envelope) == 2 * text[:size]


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


def test_files_of_roots_that_others_can_change(verified: Callable[..., Running], host: Host) -> None:
    (host.folder / "endpoint").chmod(0o777)
    ended = verified().end()
    assert ended.code == os.EX_CONFIG
    assert f"{host.folder}/endpoint: its group or others can change it" in ended.said


def test_an_engine_that_does_not_start_is_told_to_the_tasks(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host
) -> None:
    taken = "engine: {type: GlobusComputeEngine, interchange_port_range: [1, 2]}"
    host.write("endpoint/user_config_template.yaml.j2", taken)
    running = verified()
    envelope = host.session().task(double, 1)
    with pytest.raises(RuntimeError, match="The endpoint's engine did not start"):
        answer(home, queues, submit(queues, envelope), envelope)
    assert running.end().code == os.EX_UNAVAILABLE
