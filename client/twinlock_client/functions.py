"""Functions that an executor has registered: their code travels with each task, and the service never says it."""

import copy
import threading
from typing import Any, NamedTuple

from globus_compute_sdk.sdk.mpi_function import MPIFunction
from globus_compute_sdk.sdk.shell_function import ShellFunction
from globus_compute_sdk.serialize import ComputeSerializer
from globus_compute_sdk.serialize.concretes import PureSourceTextInspect
from twinlock_signed.errors import Refused


class Code(NamedTuple):
    """The code of a function, as the SDK packs it."""

    buffer: str
    as_dict: str | None = None
    """Of a ShellFunction that returns a `ShellResult`: the code of one that returns a dict, which JSON can say."""
    unclear: str = ""
    """Of a user's own kind of ShellFunction, the name of its class: nothing tells what it returns."""


class Functions:
    """The functions, by the uuids that they have for this executor's user."""

    def __init__(self) -> None:
        self._codes: dict[str, Code] = {}
        self._lock = threading.Lock()

    def add(self, function_id: str, code: Code) -> None:
        """Register code. Raise `Refused` if the uuid is that of other code."""
        with self._lock:
            if self._codes.setdefault(function_id, code) != code:
                raise Refused(f"function_id {function_id}: it is another function's; give each function its own")

    def get(self, function_id: str) -> Code:
        """Return the code. Raise `Refused` if this executor hasn't registered it: the service would choose it."""
        code = self._codes.get(function_id)
        if code is None:
            raise Refused(
                f"function {function_id[:100]}: this executor hasn't registered it, so only the service knows its code;"
                " signed work takes functions that were registered here, with `register_function`"
            )
        return code


def pack(function: Any, serializer: ComputeSerializer) -> Code:
    """Return the code of a function. Raise the SDK's `SerializationError` if it can't be packed."""
    buffer = serializer.serialize(function)
    if not isinstance(function, ShellFunction) or function.return_dict:
        return Code(buffer)
    if not _runs_as_the_sdks(type(function)):
        return Code(buffer, unclear=type(function).__name__)
    returns_dict = copy.copy(function)
    returns_dict.return_dict = True
    return Code(buffer, serializer.serialize(returns_dict))


def _runs_as_the_sdks(kind: type[Any]) -> bool:
    """Return whether a kind of ShellFunction returns what the SDK's do: nothing that runs it is replaced."""
    runs = (kind.__call__, kind.execute_cmd_line)
    return runs in [(theirs.__call__, theirs.execute_cmd_line) for theirs in (ShellFunction, MPIFunction)]


def pack_source(source: str, name: str) -> Code:
    """Return the code of the function `name` in a text, as the SDK has it where the service packs it."""
    return Code(f"{PureSourceTextInspect.identifier}{name}:{source}")
