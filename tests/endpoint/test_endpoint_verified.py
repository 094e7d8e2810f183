"""Verified mode as users and administrators see it: signed work runs, results are signed, errors say what to do."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from batch_rig import LSF, environment
from endpoint_rig import Queues, Running
from endpoint_tasks import double
from verified_rig import LOCAL, THREADS, USER, Host, answer, refusal, submit

pytestmark = pytest.mark.system


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


@pytest.mark.thorough
def test_batch_jobs_name_the_key_that_signed_the_options_and_nobody_whom_the_broker_names(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, batch: Path
) -> None:
    host.write("endpoint/user_config_template.yaml.j2", LSF)
    host.write("endpoint/user_environment.yaml", json.dumps(environment(batch)))
    verified(ep_info={"posix_ppid": os.getpid(), "job_person": "mallory@site.example"})
    envelope = host.session().task(double, 4)
    assert answer(home, queues, submit(queues, envelope), envelope) == 8
    asked = (batch / "state" / "1.job").read_text()
    assert f"#BSUB -Jd key={host.fingerprint('user')},endpoint={queues.endpoint_id},manager=" in asked
    assert "mallory" not in asked


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


@pytest.mark.cases(4)
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
    assert "did not stop" not in running.log()
