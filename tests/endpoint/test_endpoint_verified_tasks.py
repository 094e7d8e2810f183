"""What the service and its queue try on an endpoint in verified mode: tasks that its user hasn't signed, or not so.

Whatever could run here leaves a trace in the user's home, and the log has each attempt.
"""

import base64
import json
import os
import pickle
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dill  # type: ignore[import-untyped]
import pytest
from endpoint_rig import Queues, Running, task_body
from endpoint_tasks import double, note
from nacl.signing import SigningKey
from signed_rig import HOUR
from verified_rig import OTHER, Host, answer, body, message, refusal, submit, works

pytestmark = pytest.mark.system


class Touch:
    """A value that makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._path),))


def test_work_that_the_user_has_not_signed(
    verified: Callable[..., Running], home: Path, queues: Queues, host: Host, trace: Path
) -> None:
    """Each before the endpoint has options, and once more when it has them."""
    running = verified()
    session, now = host.session(), int(time.time())
    calls = note, str(trace), 1
    good, another = session.task(*calls), host.session()
    stranger = SigningKey.generate()
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
