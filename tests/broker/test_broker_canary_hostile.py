"""The canary's file and answers as they shouldn't be: each gets one short line, and nothing is believed."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from broker_rest import rest_service
from broker_rig import MANAGER, make_folder
from canary_rig import FUNCTION, LINE, CanaryService
from twinlock_broker.canary.attempt import Attempt, Failed
from twinlock_broker.canary.functions import KnownFunction
from twinlock_broker.canary.settings import Canary, load
from twinlock_broker.canary.verdict import Status, Verdict
from twinlock_broker.compute.login import ClientLogin
from twinlock_broker.errors import Fatal
from twinlock_broker.secret import Secret


@pytest.fixture
def canary(monkeypatch: pytest.MonkeyPatch) -> Iterator[CanaryService]:
    """A service that this process's canary finds."""
    with rest_service("amqp://x:y@127.0.0.1:1/z") as service:
        for name, value in service.environment.items():
            monkeypatch.setenv(name, value)
        yield CanaryService(service, pending=0)


@pytest.fixture
def attempt(canary: CanaryService, tmp_path: Path) -> Attempt:
    """A task that isn't submitted yet."""
    login = ClientLogin("a-client", Secret("hush"))
    known = KnownFunction(tmp_path / "canary.json")
    return Attempt(make_folder(tmp_path / "ep"), MANAGER, Canary(login, {}, 30.0, 60.0), known)


def verdict_of(attempt: Attempt) -> Verdict:
    """What the command makes of it."""
    with pytest.raises(Failed) as failed:
        attempt.run()
    return Verdict(failed.value.status, str(failed.value), 1.0)


def file(folder: Path, text: str) -> Path:
    """The canary's file."""
    path = folder / "canary.yaml"
    path.touch(0o600)
    path.write_text(text)
    return path


def test_the_stand_in_can_have_a_task_succeed(attempt: Attempt) -> None:
    attempt.run()


@pytest.mark.parametrize(
    "outcome",
    [
        {"result": '11\n"another word"'},
        {"result": "11\n{"},
        {"result": "11\n" + "[" * 900},
        {"result": "00\ngASVHQAAAAAAAACMBXBvc2l4lIwGc3lzdGVtlJOUjAJpZJSFlFKULg=="},
        {"result": "01\n"},
        {"result": 5},
        {"result": {"a": 1}},
        {"result": "x" * 1_000_000},
        {"exception": "\x1b[31mred\x07|time=0;\n\u202eevil " + "x" * 1_000_000},
        {"exception": ["a", "list"]},
    ],
    ids=range(10),
)
def test_hostile_outcomes_are_critical_in_one_short_line(
    attempt: Attempt, canary: CanaryService, outcome: dict[str, Any]
) -> None:
    canary.result = lambda _: outcome
    verdict = verdict_of(attempt)
    assert verdict.status is Status.CRITICAL
    assert LINE.fullmatch(verdict.line(30, 60)), verdict
    assert verdict.line(30, 60).isprintable()


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/v3/functions", {}),
        ("/v3/functions", {"function_uuid": "../../etc"}),
        ("/v3/functions", []),
        (f"/v3/endpoints/{MANAGER}/submit", {"tasks": {FUNCTION: ["../x"]}}),
        (f"/v3/endpoints/{MANAGER}/submit", {"tasks": []}),
        (f"/v3/endpoints/{MANAGER}/submit", "text"),
        ("/v2/tasks/", []),
        ("/v2/tasks/", None),
    ],
    ids=range(8),
)
def test_broken_answers_are_critical(attempt: Attempt, canary: CanaryService, path: str, answer: Any) -> None:
    canary.service.answers[path] = lambda _: answer
    verdict = verdict_of(attempt)
    assert verdict.status is Status.CRITICAL
    assert LINE.fullmatch(verdict.line(30, 60)), verdict
    assert "an answer can't be used" in verdict.text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no login: it needs client_id and client_secret"),
        ("client_id: 7b1f2f6e-0000-4000-8000-00000000c11e\n", "no login"),
        ("client_idd: a\n", "did you mean 'client_id'"),
        ("client_secret: 12345\n", "client_secret has to be a text; put it into quotes"),
        ("token: a\nwarning: 70\n", "warning (70 s) has to be at most critical (60 s)"),
        ("token: a\noptions: [1]\n", "options has to be a mapping"),
        ("- a\n", "has to be a YAML mapping"),
        ("a: [\n", "not valid YAML"),
    ],
    ids=range(8),
)
def test_a_file_that_is_wrong_is_told_with_its_key(tmp_path: Path, text: str, words: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(Fatal, match=re.escape(words)) as ended:
        load(path, {})
    assert str(path) in str(ended.value)
    assert "12345" not in str(ended.value), "secrets aren't shown"


def test_a_secret_that_others_may_read_is_not_used(tmp_path: Path) -> None:
    path = file(tmp_path, "token: a")
    path.chmod(0o640)
    with pytest.raises(Fatal, match="others may read the secret in it; chmod 600") as ended:
        load(path, {})
    assert ended.value.status == os.EX_NOPERM


def test_the_command_line_wins(tmp_path: Path) -> None:
    path = file(tmp_path, "token: a\nwarning: 5\ncritical: 300\n")
    found = load(path, {"warning": 2.0, "options": {"b": 2}})
    assert (found.warning, found.critical, found.options) == (2.0, 300.0, {"b": 2})
