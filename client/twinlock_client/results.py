"""Results, and what is believed of them: nothing that comes runs code here, unless the account's key has signed it."""

import json
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from globus_compute_sdk.errors import TaskExecutionFailed
from globus_compute_sdk.errors.error_types import SERDE_TASK_EXECUTION_FAILED_HELP_MESSAGE, WORKER_LOST_MESSAGE
from globus_compute_sdk.sdk.shell_function import ShellResult
from twinlock_signed import result
from twinlock_signed.errors import Refused
from twinlock_signed.result import JSON_DATA, Result

from twinlock_client import printable
from twinlock_client.user import User

Deserialize = Callable[[str], Any]
"""Returns what the SDK's serializer has packed. It may run code."""

_MAY_HAVE_RUN = "The task may have run, or may still run; look for what it does before you submit it again"


class ResultRefused(Exception):
    """A result came that can't be believed. The text names the reason and the next step."""


class TaskFailed(TaskExecutionFailed):  # type: ignore[misc]  # the SDK has no types
    """The function has failed. The text is the SDK's, but a forged one can't keep the program busy for hours."""

    hint = ""
    """What the user can do about it, where that is known; the SDK's advice isn't given then."""

    _WORKER_LOST = re.compile(r"parsl\.\S{1,100}\.WorkerLost:")

    def __str__(self) -> str:
        text = f"\n{textwrap.indent(self.remote_data, ' ')}"
        if self.hint:
            return f"{text}\n\n{self.hint}"
        is_lost = self._WORKER_LOST.search(text) is not None
        if is_lost or self.SERDE_REGEX.search(text):
            text += SERDE_TASK_EXECUTION_FAILED_HELP_MESSAGE
        return text + WORKER_LOST_MESSAGE if is_lost else text


class UnsignedFailure(TaskExecutionFailed):  # type: ignore[misc]  # the SDK has no types
    """A failure is reported that the account hasn't signed: whoever controls the service may have made it up."""

    def __str__(self) -> str:
        return (
            f"The service reports a failure, which the account has not signed. {_MAY_HAVE_RUN}. "
            f"The report:\n{self.remote_data}"
        )


@dataclass(frozen=True)
class Expected:
    """What a result has to be of."""

    user: User
    """Whose account the task runs under."""
    manager: str
    """The uuid of the manager endpoint that got the task."""
    task: str
    """The SHA-256 of the task's statement, in hexadecimal digits."""
    is_shell: bool = False
    """The function was told to return a dict, from which a `ShellResult` is made here."""


def read(expected: Expected, key: str | None, text: str, deserialize: Deserialize, *, is_failure: bool) -> Any:
    """Return what the function has returned.

    Args:
        expected: what the result has to be of.
        key: the public half of the account's key, in hexadecimal digits; None if it isn't enrolled. Then the result may
            be forged, and only JSON is read.
        text: what came.
        deserialize: reads what the key has signed.
        is_failure: it came as a failure. Of a result with the two texts of a signed one, these say it.

    Raises:
        TaskExecutionFailed: the function has failed, or a failure was reported (`UnsignedFailure`).
        ResultRefused: it can't be believed, or not be read.
    """
    try:
        statement, signature = result.unpack(text)
    except Refused as error:
        if is_failure:
            raise UnsignedFailure(printable.lines(printable.shortened(text))) from None
        raise ResultRefused(f"{printable.line(str(error))}. {_MAY_HAVE_RUN}") from None
    found = _believed(expected, key, statement, signature)
    if not found.success:
        raise _failure(expected, key, printable.lines(printable.shortened(found.data)))
    value = _value(found.data, json_only if key is None else deserialize)
    return _shell_result(value) if expected.is_shell else value


_NO_STRATEGY = "SerializationError: Serialization failed: All strategies failed."
"""How the SDK says at the endpoint that none of the strategies that were asked for can pack a result."""


def _failure(expected: Expected, key: str | None, text: str) -> TaskFailed:
    failure = TaskFailed(text)
    if key is None and _NO_STRATEGY in text:
        failure.hint = (
            "The function has run, and JSON can't say what it has returned. Have it return texts, numbers, lists and "
            "dicts, or enroll the account's key for results of other kinds: "
            f"twinlock-client enroll {expected.user} {expected.manager}"
        )
    return failure


def _believed(expected: Expected, key: str | None, statement: bytes, signature: str) -> Result:
    try:
        if key is None:
            return result.claimed(statement, expected.manager, expected.task)
        return result.verify(statement, signature, key, expected.manager, expected.task)
    except Refused as error:
        enrolled = (
            ""
            if key is None
            else (f". If {expected.user} has a new result key, enroll it: twinlock-client enroll --replace")
        )
        raise ResultRefused(f"{printable.line(str(error))}. {_MAY_HAVE_RUN}{enrolled}") from None


def _value(data: str, deserialize: Deserialize) -> Any:
    try:
        return deserialize(data)
    except ResultRefused:
        raise
    except Exception as error:
        raise ResultRefused(
            f"The result is good, but can't be read here ({type(error).__name__}: {printable.line(str(error))[:300]}); "
            "use the same versions of Python and packages as the endpoint, or return what JSON can say"
        ) from error


def json_only(data: str) -> Any:
    """Return what the SDK's `JSONData` has packed. Raise `ResultRefused` if anything else has."""
    if not data.startswith(JSON_DATA):
        _refuse_strategy(data)
    try:
        return json.loads(data[len(JSON_DATA) :])
    except (ValueError, RecursionError) as error:
        raise ResultRefused(f"The result is not JSON ({printable.line(str(error))[:300]}); {_ENROLL}") from None


_ENROLL = "enroll the account's key (twinlock-client enroll) for results of other kinds"


def _refuse_strategy(data: str) -> NoReturn:
    raise ResultRefused(
        f"The result is packed as {data[:2]!r}, which could run code here, and nothing shows that it is the account's; "
        f"{_ENROLL}, or report it if you have asked for JSON"
    )


_SHELL_RESULT = {
    "cmd": (str,),
    "stdout": (str,),
    "stderr": (str,),
    "returncode": (int,),
    "exception_name": (str, type(None)),
}
"""What a `ShellResult` has, and the types that each may have."""


def _shell_result(value: Any) -> ShellResult:
    if type(value) is not dict or value.keys() - _SHELL_RESULT.keys():
        raise ResultRefused("The result is not what a ShellFunction returns; report it")
    if any(type(value.get(name)) not in types for name, types in _SHELL_RESULT.items()):
        raise ResultRefused("The result is not what a ShellFunction returns; report it")
    return ShellResult(**value)
