"""Results: what the client believes of what the service says. Nothing that isn't the account's runs code here."""

import base64
import json
import pickle
import time
import traceback
import unicodedata
from contextlib import suppress
from pathlib import Path
from typing import Any

import dill  # type: ignore[import-untyped]  # it has none
import pytest
from client_rig import ACCOUNT_KEY, EXPECTED, TASK, signed_result
from globus_compute_sdk.errors import SerializationError, TaskExecutionFailed
from globus_compute_sdk.sdk.shell_function import ShellResult
from globus_compute_sdk.serialize import ComputeSerializer, JSONData
from globus_compute_sdk.serialize.base import SerializationStrategy
from hypothesis import given
from hypothesis import strategies as st
from nacl.signing import SigningKey
from signed_rig import MANAGER
from twinlock_client.results import Expected, ResultRefused, UnsignedFailure, read
from twinlock_signed.dsse import public_half
from twinlock_signed.statement import digest

KEY = public_half(ACCOUNT_KEY)
OTHER_KEY = SigningKey(b"\3" * 32)
OTHER_MANAGER = "99999999-2222-4333-8444-555555555555"


def got(text: str, key: str | None = KEY, *, is_failure: bool = False, expected: Expected = EXPECTED) -> Any:
    return read(expected, key, text, ComputeSerializer().deserialize, is_failure=is_failure)


def packed(value: object) -> str:
    """As the SDK packs it by default."""
    return str(ComputeSerializer().serialize(value))


def in_json(value: object) -> str:
    return str(JSONData().serialize(value))


class Evil:
    """Whoever unpickles it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def hostile(path: Path) -> list[str]:
    """A text for each strategy of the SDK that is not JSON alone, made to make a file when it is read."""
    known = SerializationStrategy._CACHE  # noqa: SLF001 - there is no public list
    source = f"def evil():\n    pass\nopen({str(path)!r}, 'w')\n"
    coded = base64.b64encode(dill.dumps(Evil(path))).decode()
    texts = [f"{identifier}{coded}" for identifier in known if identifier != "11\n"]
    texts += [f"{identifier}evil:{source}" for identifier in known]
    pieces = f"st\nevil:{source}"
    texts += [f"{identifier}{len(pieces)}\n{pieces}" for identifier in ("12\n", "13\n")]
    return [*texts, pickle.dumps(Evil(path)).decode("latin-1")]


JSONS = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda each: st.lists(each, max_size=3))
TEXTS = st.one_of(
    st.text(),
    st.builds("{}\n{}".format, st.sampled_from(["00", "01", "11", "12", "13", "st"]), st.text()),
    JSONS.map(lambda value: "11\n" + json.dumps(value)),
    st.lists(st.text(), min_size=2, max_size=2).map(lambda value: "11\n" + json.dumps(value)),
)


@given(TEXTS, st.booleans(), st.sampled_from([KEY, None]))
def test_whatever_comes_is_refused_in_words(text: str, is_failure: bool, key: str | None) -> None:
    """Nothing of it is a result of the task, so none comes back; nor is there an error that ends a thread."""
    for sent in (text, signed_result(text, key=OTHER_KEY)[:-1]):
        with pytest.raises((ResultRefused, TaskExecutionFailed)) as caught:
            got(sent, key, is_failure=is_failure)
        kinds = {unicodedata.category(mark) for mark in str(caught.value) if mark not in "\n\t"}
        assert kinds.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"}), "control characters, or what turns a text around"


@given(TEXTS)
def test_whatever_is_in_a_claimed_result_is_json_or_refused(data: str) -> None:
    text = signed_result(data, key=OTHER_KEY)
    try:
        value = got(text, None)
    except ResultRefused:
        return
    assert value == json.loads(data[3:])


def test_a_signed_result() -> None:
    assert got(signed_result(packed({1: {"a"}}))) == {1: {"a"}}
    assert got(signed_result(in_json([1]))) == [1]


def test_the_hostile_texts_would_run_if_they_were_believed(tmp_path: Path) -> None:
    """Else the next test would show nothing."""
    made = 0
    for text in hostile(tmp_path / "made"):
        with suppress(Exception):
            ComputeSerializer().deserialize(text)
        made += (tmp_path / "made").exists()
        (tmp_path / "made").unlink(missing_ok=True)
    assert made >= 5


@pytest.mark.parametrize("key", [KEY, None], ids=["enrolled", "not enrolled"])
def test_what_could_run_code_is_never_read(tmp_path: Path, key: str | None) -> None:
    """Bare; or in an envelope that is right but for its signature."""
    for data in hostile(tmp_path / "made"):
        for text in (data, signed_result(data, key=OTHER_KEY)):
            with pytest.raises(ResultRefused):
                got(text, key)
            with pytest.raises((TaskExecutionFailed, ResultRefused)):
                got(text, key, is_failure=True)
            assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("data", [packed([1]), "", "00\n", "st\nf:def f(): pass"])
def test_not_enrolled_only_json_is_read(data: str) -> None:
    with pytest.raises(ResultRefused, match=r"could run code here.*twinlock-client enroll"):
        got(signed_result(data), None)


def test_not_enrolled_json_is_data_whoever_signed_it() -> None:
    assert got(signed_result(in_json({"a": [1, None]}), key=OTHER_KEY), None) == {"a": [1, None]}


@pytest.mark.parametrize("data", ["11\n", "11\n{", "11\n" + "[" * 100_000, "11\n" + "1" * 5000])
@pytest.mark.parametrize("key", [KEY, None], ids=["enrolled", "not enrolled"])
def test_json_that_is_none(data: str, key: str | None) -> None:
    with pytest.raises(ResultRefused, match=r"JSON|can't be read here"):
        got(signed_result(data), key)


def test_enrolled_an_unsigned_result_is_an_error() -> None:
    for text in (in_json([1]), packed([1]), "", "None"):
        with pytest.raises(ResultRefused, match=r"The result is not signed.*The task may have run"):
            got(text)


def test_enrolled_a_result_that_another_key_signed_is_an_error() -> None:
    with pytest.raises(ResultRefused, match=r"signature of the result is wrong.*enroll --replace"):
        got(signed_result(in_json([1]), key=OTHER_KEY))


@pytest.mark.parametrize("key", [KEY, None], ids=["enrolled", "not enrolled"])
@pytest.mark.parametrize(("task", "manager"), [(digest(b"another task"), MANAGER), (TASK, OTHER_MANAGER)])
def test_another_tasks_result(key: str | None, task: str, manager: str) -> None:
    """Signed by the account, for another task or at another endpoint, a failure or not."""
    for success in (True, False):
        text = signed_result(in_json([1]), task, manager, success=success)
        with pytest.raises(ResultRefused, match="another task's"):
            got(text, key)


def test_a_signed_failure() -> None:
    """Whether it came as a failure doesn't count: the service could say that."""
    text = signed_result("Traceback\n\tboom", success=False)
    for is_failure in (True, False):
        for key in (KEY, None):
            with pytest.raises(TaskExecutionFailed, match="boom") as caught:
                got(text, key, is_failure=is_failure)
            assert not isinstance(caught.value, UnsignedFailure)
    assert got(signed_result(in_json(1)), is_failure=True) == 1


@pytest.mark.parametrize("key", [KEY, None], ids=["enrolled", "not enrolled"])
def test_a_failure_that_nobody_signed_is_a_report(key: str | None) -> None:
    with pytest.raises(UnsignedFailure, match=r"not signed. The task may have run.*\n.*no such account"):
        got("no such account", key, is_failure=True)


@pytest.mark.parametrize(
    "text",
    [
        "Traceback\n\n  boom",
        "_pickle.UnpicklingError: no",
        "x\nparsl.executors.high_throughput.errors.WorkerLost: Task failure due to loss of worker 0",
    ],
)
def test_a_signed_failure_is_shown_as_the_sdk_shows_it(text: str) -> None:
    with pytest.raises(TaskExecutionFailed) as caught:
        got(signed_result(text, success=False))
    assert str(caught.value) == str(TaskExecutionFailed(text))


@pytest.mark.parametrize("key", [KEY, None], ids=["enrolled", "not enrolled"])
def test_a_result_that_json_can_not_say(key: str | None) -> None:
    """The endpoint's worker sends the SDK's traceback, which is long and names no way out."""
    try:
        ComputeSerializer().serialize_from_list({1, 2}, ["globus_compute_sdk.serialize.concretes.JSONData"])
    except SerializationError:
        text = traceback.format_exc()
    with pytest.raises(TaskExecutionFailed) as caught:
        got(signed_result(text, success=False), key)
    enroll = f"for results of other kinds: twinlock-client enroll {EXPECTED.user} {MANAGER}"
    assert str(caught.value).endswith(enroll) == (key is None)


@pytest.mark.parametrize("unit", [" ", "\n", "parsl.", "parsl.a."])
@pytest.mark.parametrize("is_signed", [True, False])
def test_a_long_failure_is_shown_in_no_time(unit: str, is_signed: bool) -> None:
    """The SDK looks through one of ten million blanks for days."""
    text = f"begin{unit * (10_000_000 // len(unit))}end"
    began = time.process_time()
    with pytest.raises(TaskExecutionFailed) as caught:
        got(signed_result(text, success=False) if is_signed else text, None, is_failure=True)
    shown = str(caught.value)
    assert time.process_time() - began < 10
    assert "begin" in shown
    assert "characters left out" in shown
    assert shown.rstrip().endswith("end")
    assert len(shown) < 500_000


EVIL_TEXT = "a\x1b]0;owned\x07b\x9b2Jc\u202ed\u2028e\r\x00f\n\tg"


def test_control_characters_are_removed_from_failures() -> None:
    for text in (EVIL_TEXT, signed_result(EVIL_TEXT, success=False)):
        with pytest.raises(TaskExecutionFailed) as caught:
            got(text, None, is_failure=True)
        shown = str(caught.value)
        assert "a]0;ownedb2Jcdef\n" in shown
        assert all(mark.isprintable() or mark in "\n\t" for mark in shown)


def test_control_characters_are_removed_from_refusals() -> None:
    for text in (f"\x1b{EVIL_TEXT}", signed_result("\x1b\x9b"), signed_result("11\n\x1b[")):
        with pytest.raises(ResultRefused) as caught:
            got(text, None)
        assert all(mark.isprintable() for mark in str(caught.value))


SHELL = Expected(EXPECTED.user, MANAGER, TASK, is_shell=True)
ECHO = {"cmd": "echo", "stdout": "hello\n", "stderr": "", "returncode": 0, "exception_name": None}


def test_a_shell_result_comes_as_a_dict() -> None:
    found = got(signed_result(in_json(ECHO)), None, expected=SHELL)
    assert isinstance(found, ShellResult)
    assert (found.cmd, found.stdout, found.returncode) == ("echo", "hello\n", 0)


@pytest.mark.parametrize(
    "value",
    [
        *(None, [], {}, {**ECHO, "__class__": "os.system"}, {"cmd": 1}),
        *({**ECHO, name: 1} for name in ("cmd", "stdout", "stderr", "exception_name")),
        *({**ECHO, name: None} for name in ("cmd", "stdout", "stderr", "returncode")),
        *({**ECHO, "returncode": code} for code in ("0", True, 1.5)),
        {name: value for name, value in ECHO.items() if name != "stdout"},
    ],
)
def test_a_shell_result_that_is_none(value: object) -> None:
    with pytest.raises(ResultRefused, match="not what a ShellFunction returns"):
        got(signed_result(in_json(value)), None, expected=SHELL)


def test_a_good_result_that_can_not_be_read() -> None:
    with pytest.raises(ResultRefused, match=r"good, but can't be read here \(.*same versions of Python"):
        got(signed_result("00\nnot base 64!"))


def test_the_results_own_text_is_left_as_it_is() -> None:
    assert got(signed_result(in_json(EVIL_TEXT))) == EVIL_TEXT
    assert json.loads(in_json(EVIL_TEXT)[3:]) == EVIL_TEXT
