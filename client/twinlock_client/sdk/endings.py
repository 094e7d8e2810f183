"""How the futures of signed tasks end: by what each one expects of its result, or by a failure."""

import contextlib
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import InvalidStateError
from typing import Any

from globus_compute_sdk.sdk.asynchronous.compute_future import ComputeFuture

log = logging.getLogger(__name__)

Check = Callable[[str, bool], Any]
"""Returns the value in a result's text; the flag says whether it came as a failure. Raises what the task failed by."""

_CHECK = "twinlock_check"


def expect(future: ComputeFuture, check: Check) -> None:
    """Have the future's result checked so."""
    future._metadata[_CHECK] = check  # noqa: SLF001 - the SDK's own place for such things


def settle(future: ComputeFuture, text: object, *, is_failure: bool) -> None:
    """Give a future its value or its exception, whatever came."""
    try:
        value = future._metadata[_CHECK](str(text), is_failure)  # noqa: SLF001 - see `expect`
    except Exception as error:
        finish(future, error=error)
    else:
        finish(future, value=value)


def finish(future: ComputeFuture, value: Any = None, error: Exception | None = None) -> None:
    """Give a future its value or its exception. One that was cancelled meanwhile stays so."""
    try:
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(value)
    except InvalidStateError:
        log.info("task %s: its result came after it was cancelled", future.task_id)
        with contextlib.suppress(RuntimeError):  # who waits for it knows already
            future.set_running_or_notify_cancel()


def fail(futures: Iterable[ComputeFuture], error: Exception) -> None:
    """Give an exception to those futures that have nothing yet."""
    for future in futures:
        if not future.done():
            finish(future, error=error)


def no_uuid() -> RuntimeError:
    """Return what futures fail by whose results couldn't be told from others'."""
    return RuntimeError(
        "The service gave the task no uuid of its own, so its result can't be waited for, and the task may have run; "
        "look for what it does before you submit it again, and report it"
    )
