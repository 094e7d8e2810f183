"""The host's side of signed work, as a verified endpoint has it: it verifies tasks, and signs results."""

import time
from collections.abc import Sequence
from pathlib import Path

from globus_compute_sdk.serialize import ComputeSerializer
from nacl.signing import SigningKey
from signed_rig import HOST, MANAGER, public
from twinlock_client.records import enrolled
from twinlock_client.records.enrolled import Enrolled
from twinlock_client.results import Expected
from twinlock_client.user import User
from twinlock_signed import dsse, result
from twinlock_signed.delegation import Delegation, Host
from twinlock_signed.replay.revoked_ids import Revoked
from twinlock_signed.result import Result
from twinlock_signed.statement import digest
from twinlock_signed.task import Task
from twinlock_signed.trusted import Trusted
from twinlock_signed.verifier import Verifier, envelope

ACCOUNT_KEY = SigningKey(b"\2" * 32)
"""With which the account signs results."""

ADA = User("ada", HOST.site)
TASK = digest(b"a task")
EXPECTED = Expected(ADA, MANAGER, TASK)


def enroll(manager: str = MANAGER, key: SigningKey = ACCOUNT_KEY) -> str:
    """Enroll the account's key, as `twinlock-client enroll` does; its public half."""
    enrolled.add(Enrolled(ADA, manager, dsse.public_half(key)))
    return dsse.public_half(key)


def signed_result(
    data: str,
    task: str = TASK,
    manager: str = MANAGER,
    *,
    success: bool = True,
    key: SigningKey = ACCOUNT_KEY,
) -> str:
    """The text of a result that the account has signed, or another one's key."""
    statement = result.write(Result(manager, task, success, data))
    return result.pack(statement, result.sign(statement, key))


class VerifyingHost:
    """A host that knows ada's keys."""

    def __init__(self, *signers: str, manager: str = MANAGER) -> None:
        """Accept the keys in these lines of an allowed_signers file."""
        self.host: Host = HOST._replace(manager=manager)
        """Whom it verifies for."""
        lines = "".join(f"{line}\n" for line in signers).encode()
        self._verifier = Verifier(self.host, lambda: Trusted(lines, (), b"", Revoked(frozenset(), 0)))

    @classmethod
    def knowing(cls, key: Path, manager: str = MANAGER) -> "VerifyingHost":
        """One that accepts a key, given by its private half's file."""
        return cls(f"ada {public(key)}", manager=manager)

    def accept(self, arguments: Sequence[str], now: float | None = None) -> tuple[Delegation, Task]:
        """What a task's arguments ask for. Raises `Refused`."""
        verified, task = self._verifier.verify(envelope(arguments), time.time() if now is None else now)
        return verified.delegation, task

    def run(self, arguments: Sequence[str]) -> str:
        """Run a task in this process, and give the text of its signed result."""
        _, task = self.accept(arguments)
        serializer = ComputeSerializer()
        function, args, kwargs = map(serializer.deserialize, (task.function, task.args, task.kwargs))
        statement = digest(arguments[2].encode("ascii"))
        try:
            data = serializer.serialize_from_list(function(*args, **kwargs), task.result_serializers)
        except Exception as error:
            return signed_result(repr(error), statement, self.host.manager, success=False)
        return signed_result(data, statement, self.host.manager)
