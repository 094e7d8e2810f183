"""What an attacker tries who has broker, service, queue and network: nothing runs as the user, and the log has each.

Whatever could run here leaves a trace in the user's home.
"""

import base64
import json
import os
import pickle
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dill  # type: ignore[import-untyped]
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from endpoint_rig import Queues, Running, start, task_body, until
from endpoint_tasks import double, note
from manager_socket import ManagerSocket
from signed_rig import HOUR
from twinlock_endpoint.journal import frames, records
from twinlock_endpoint.task import Task
from verified_rig import THREADS, Host, Session, answer, body, message, refusal, submit

pytestmark = pytest.mark.system

OTHER = "99999999-2222-4333-8444-555555555555"


class Touch:
    """A value that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._path),))


@pytest.fixture
def trace(home: Path) -> Path:
    """A path in the user's home at which nothing may ever be."""
    return home / "trace"


def variable(name: str) -> str | None:
    import os

    return os.environ.get(name)


def works(queues: Queues, home: Path, host: Host, session: Session | None = None) -> None:
    """The endpoint still serves its user."""
    envelope = (session or host.session()).task(double, 1)
    assert answer(home, queues, submit(queues, envelope), envelope) == 2


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


def test_work_that_the_user_has_not_signed(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Each before the endpoint has options, and once more when it has them."""
    running = verified()
    session, now = host.session(), int(time.time())
    calls = note, str(trace), 1
    good, another = session.task(*calls), host.session()
    stranger = Ed25519PrivateKey.generate()
    attacks: dict[str, Any] = {
        "no texts": [],
        "three texts": list(good[:3]),
        "no delegation": ["", "", *good[2:]],
        "an unsigned delegation": [good[0], "", *good[2:]],
        "another's signature": [good[0], another.signature, *good[2:]],
        "another's task": [*good[:2], *another.task(*calls)[2:]],
        "a task by another key": session.task(*calls, key=stranger),
        "another statement": [*good[:2], session.task(*calls)[2], good[3]],
        "a junk task": [*good[:2], "{}", "00" * 64],
        "options of the attacker": [good[0].replace("{}", '{"worker_init":"x"}'), *good[1:]],
        "somebody's key": host.session("stranger").task(*calls),
        "another namespace": host.session(namespace="git").task(*calls),
        "another account": host.session(account="ada@cluster.example.org").task(*calls),
        "another site": host.session(account="nobody@elsewhere.example.org").task(*calls),
        "another manager": host.session(manager=OTHER).task(*calls),
        "expired": host.session(issued=now - 2 * HOUR, expires=now - HOUR).task(*calls),
        "early": host.session(issued=now + HOUR, expires=now + 2 * HOUR).task(*calls),
        "too long": host.session(expires=now + 48 * HOUR).task(*calls),
        "an expired task": session.task(*calls, issued=now - HOUR, expires=now - 1),
        "an early task": session.task(*calls, issued=now + HOUR),
        "a large delegation": ["x" * 1_000_000, *good[1:]],
        "another algorithm": [*good[:3], "rsa:" + good[3]],
    }
    for _ in range(2):
        for name, envelope in attacks.items():
            task = submit(queues, envelope)
            assert refusal(queues, task), name
            assert f"Task {task} is refused: " in running.log(), name
        works(queues, home, host, session)
    assert not trace.exists()


def test_pickles_where_json_is_due(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """In the arguments, in the function of the stub, and in place of the whole message."""
    verified()
    pickled = pickle.dumps(Touch(trace))
    packed = base64.b64encode(dill.dumps(Touch(trace))).decode()
    for _ in range(2):
        bodies = []
        for arguments in (f"00\n{packed}", f"01\n{packed}", f"11\n{packed}", "11\n[", "12\n" + packed, ""):
            task = str(uuid.uuid4())
            bodies.append((task, message(task, arguments)))
        task = str(uuid.uuid4())
        bodies += [(task, pickled), (str(uuid.uuid4()), b"\x01" + b"[" * 100_000), (str(uuid.uuid4()), b"\x01{}")]
        bodies += [(task := str(uuid.uuid4()), task_body(task, note, str(trace), 1))]
        for task, made in bodies:
            queues.publish(made, task_uuid=task)
            assert "isn't signed" in refusal(queues, task)
        works(queues, home, host)
    assert not trace.exists()


def test_other_headers(verified: Callable[..., Running], home: Path, queues: Queues, host: Host) -> None:
    """Neither resources nor serializers nor a function's uuid that weren't signed count."""
    verified()
    session, task = host.session(), str(uuid.uuid4())
    envelope = session.task(double, 3)
    queues.publish(
        body(task, envelope),
        task_uuid=task,
        function_uuid=OTHER,
        resource_specification=json.dumps({"num_nodes": 99}),
        result_serializers=["globus_compute_sdk.serialize.DillDataBase64"],
    )
    assert answer(home, queues, task, envelope) == 6
    asked = session.task(double, 3, resource_specification={"num_nodes": 99})
    with pytest.raises(RuntimeError, match="ThreadPoolEngine takes no resource specification"):
        answer(home, queues, submit(queues, asked), asked)


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
        with pytest.raises(RuntimeError, match=f"This task is a copy of task {first}, which was accepted before"):
            answer(home, queues, copy, envelope)
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


def test_a_revoked_delegation(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """By the user, by the site, and when nobody can say what is revoked."""
    revoked = home / ".config/twinlock/revoked"
    revoked.parent.mkdir(parents=True)
    session = host.session()
    revoked.write_text(f"{json.loads(session.delegation)['id']}\n")
    verified()
    assert "is revoked by ~/.config/twinlock/revoked" in refusal(
        queues, submit(queues, session.task(note, str(trace), 1))
    )
    revoked.write_text("nonsense\n")
    other = host.session()
    said = refusal(queues, submit(queues, other.task(note, str(trace), 1)))
    assert "line 1 is neither a delegation's id nor" in said
    revoked.unlink()
    works(queues, home, host, other)
    assert not trace.exists()


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
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"a copy of task {task}"):
            answer(home, queues, submit(queues, envelope), envelope)
        submit(queues, envelope, task)
        until(lambda: queues.waiting_tasks() == 0)
        running.signal(signal.SIGKILL)
        running.end()
        running = verified()
    until(lambda: running.log().count("has come before") == 2)
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
    for task in tasks:
        queues.result(task)
    assert trace.read_text() == "1\n"
    assert running.log().count(" is refused: This task is a copy of task ") == len(tasks) - 1
