"""The client's own envelopes at a verified endpoint, and its reading of what comes back."""

from collections.abc import Callable
from inspect import isfunction
from pathlib import Path
from typing import Any

import pytest
from endpoint_rig import Queues, Running
from endpoint_tasks import double
from globus_compute_sdk import ShellFunction
from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.serialize import ComputeSerializer, PureSourceTextInspect
from twinlock_client import functions
from twinlock_client.envelope import Envelopes, Way
from twinlock_client.records import enrolled
from twinlock_client.records.enrolled import Enrolled
from twinlock_client.results import UnsignedFailure, read
from twinlock_client.sdk.client import user_runtime
from twinlock_client.session import SigningSession
from twinlock_client.user import User
from twinlock_signed import result_key
from verified_rig import MANAGER, SITE, Host, submit

pytestmark = pytest.mark.system

NOBODY = User("nobody", SITE)


class Client:
    """The user's computer, without the service."""

    def __init__(self, queues: Queues, host: Host) -> None:
        self._queues = queues
        session = SigningSession(NOBODY, host.keys["user"], 3600, user_runtime)
        self._envelopes = Envelopes(NOBODY, session, None)

    def run(self, function: Any, *args: Any, options: dict[str, Any] | None = None) -> Any:
        """What the function returns."""
        # The endpoint can't import a test's own functions.
        serializer = ComputeSerializer(strategy_code=PureSourceTextInspect() if isfunction(function) else None)
        way = Way(MANAGER, options, None, [])
        envelope = self._envelopes.make(functions.pack(function, serializer), args, {}, way, serializer)
        message = self._queues.result(submit(self._queues, envelope))
        key = enrolled.key(NOBODY, MANAGER)
        is_failure = message.error_details is not None
        return read(envelope.expected, key, message.data, serializer.deserialize, is_failure=is_failure)


@pytest.fixture
def client(queues: Queues, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Client:
    """The user's computer."""
    monkeypatch.setenv("HOME", str(tmp_path))
    return Client(queues, host)


def fail() -> None:
    raise ValueError("what the function says")


def test_it_runs_what_the_client_signs(verified: Callable[..., Running], home: Path, client: Client) -> None:
    """Before the account's key is enrolled, in JSON; and then anything."""
    verified()
    assert client.run(double, 4) == 8
    assert client.run(ShellFunction("echo hello")).stdout == "hello\n"
    with pytest.raises(TaskExecutionFailed, match="what the function says") as caught:
        client.run(fail)
    assert not isinstance(caught.value, UnsignedFailure)
    line = (home / result_key.PUBLIC_PLACE[2:]).read_text()
    enrolled.add(Enrolled(NOBODY, MANAGER, result_key.read_public(line)))
    assert client.run(set, "abc") == {"a", "b", "c"}
    assert "hello\n" in client.run(ShellFunction("echo hello")).stdout


def test_other_options_are_refused_in_a_signed_or_an_unsigned_failure(
    verified: Callable[..., Running], client: Client
) -> None:
    verified()
    assert client.run(double, 4) == 8
    with pytest.raises(TaskExecutionFailed, match="options"):
        client.run(double, 4, options={"other": 1})
