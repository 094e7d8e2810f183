"""Functions that an executor has registered: their code travels with each task, and the service never says it."""

import copy
import threading
from typing import Any, NamedTuple

from globus_compute_sdk.sdk.shell_function import ShellFunction
from globus_compute_sdk.serialize import ComputeSerializer
from globus_compute_sdk.serialize.concretes import PureSourceTextInspect
from twinlock_signed.errors import Refused


class Code(NamedTuple):
    """The code of a function, as the SDK packs it."""

    buffer: str
    as_dict: str | None = None
    """Of a ShellFunction that returns a `ShellResult`: the code of one that returns a dict, which JSON can say."""


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
    if isinstance(function, ShellFunction) and not function.return_dict:
        returns_dict = copy.copy(function)
        returns_dict.return_dict = True
        return Code(serializer.serialize(function), serializer.serialize(returns_dict))
    return Code(serializer.serialize(function))


def pack_source(source: str, name: str) -> Code:
    """Return the code of the function `name` in a text, as the SDK has it where the service packs it."""
    return Code(f"{PureSourceTextInspect.identifier}{name}:{source}")
