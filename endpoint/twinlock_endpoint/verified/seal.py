"""The signing of results, by the key of the account."""

from functools import partial

from nacl.signing import SigningKey
from twinlock_common.offload import in_thread
from twinlock_signed import result
from twinlock_signed.errors import Refused
from twinlock_signed.packed import without_line_ends
from twinlock_signed.result import Result

from twinlock_endpoint.tasks import results
from twinlock_endpoint.tasks.intake import Seal
from twinlock_endpoint.verified.delegations import LARGE
from twinlock_endpoint.worker.messages import pack, unpack


class Sealer:
    """Signs the results of tasks that came by one manager endpoint."""

    def __init__(self, manager: str, key: SigningKey) -> None:
        self._manager = manager
        self._key = key

    def of(self, task: str, task_id: str) -> Seal:
        """Return what signs the result of a task, given the SHA-256 of its statement, and its uuid."""
        return partial(self._seal, task, task_id)

    async def _seal(self, task: str, task_id: str, packed: bytes) -> bytes:
        if len(packed) > LARGE:
            return await in_thread(lambda: self._signed(task, task_id, packed))
        return self._signed(task, task_id, packed)

    def _signed(self, task: str, task_id: str, packed: bytes) -> bytes:
        """Return the result with a signed statement in place of its data. A task may make its worker send anything."""
        try:
            return self._with_statement(task, packed)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return self._with_statement(task, results.unreadable(task_id))

    def _with_statement(self, task: str, packed: bytes) -> bytes:
        fields = unpack(packed, "result")
        success = fields.get("error_details") is None
        data = without_line_ends(fields["data"]) if success else fields["data"]
        try:
            statement = result.write(Result(self._manager, task, success, data))
        except Refused as error:
            statement = result.write(Result(self._manager, task, False, f"The result can't be signed: {error}"))
        fields["data"] = result.pack(statement, result.sign(statement, self._key))
        return pack("result", fields)
