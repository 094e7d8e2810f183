"""All checks of a task that comes with its delegation, in their order.

What a statement says is looked at only when its signature is known to be good. That the task wasn't run before is
still to be seen: `twinlock_signed.replay.claims`.
"""

from collections.abc import Callable
from typing import NamedTuple

from twinlock_signed import delegation, task
from twinlock_signed.delegation import Delegation, Host
from twinlock_signed.errors import Refused
from twinlock_signed.replay import revoked_ids
from twinlock_signed.ssh.verify import Key, verify
from twinlock_signed.statement import digest
from twinlock_signed.task import Task
from twinlock_signed.trusted import Trusted

AGAIN = 300
"""Seconds after which a delegation is verified again, since its key may have been revoked or removed."""


class Envelope(NamedTuple):
    """The four texts that travel."""

    delegation: str
    """The delegation's statement."""
    delegation_signature: str
    """The person's signature, as ssh-keygen writes it."""
    task: str
    """The task's statement."""
    task_signature: str
    """The session key's signature, in hexadecimal digits."""


def envelope(arguments: object) -> Envelope:
    """Return the envelope that is the arguments of a task. Raise `Refused` if they aren't four texts."""
    if not isinstance(arguments, (list, tuple)) or [type(text) for text in arguments] != [str] * 4:
        raise Refused("The task is not signed: it has not the four texts of signed work; submit with twinlock-client")
    return Envelope(*arguments)


class Verified(NamedTuple):
    """A delegation that a person has signed."""

    delegation: Delegation
    digest: str
    """The SHA-256 of its statement, in hexadecimal digits."""
    key: Key
    """The person's."""
    at: float
    """When it was verified, in seconds since 1970."""


class Verifier:
    """Verifies what an endpoint gets, each delegation once in a while. Several threads may use it."""

    def __init__(self, host: Host, trusted: Callable[[], Trusted]) -> None:
        """Verify for `host`. `trusted` returns what holds at the moment."""
        self._host = host
        self._trusted = trusted
        self._known: dict[str, tuple[str, Verified]] = {}
        """Delegations by their text, each with its last good signature: whoever has one can spell it in many ways."""

    def knows(self, envelope: Envelope, now: float) -> bool:
        """Return whether its delegation was verified not long before `now`, so that no program has to run for it."""
        return self._find(envelope.delegation, envelope.delegation_signature, now) is not None

    def verify(self, envelope: Envelope, now: float, *, is_past: bool = False) -> tuple[Verified, Task]:
        """Return the delegation and the task of an envelope.

        Args:
            envelope: what came.
            now: the time in seconds since 1970.
            is_past: the time is past: the envelope was accepted then, and is verified once more as of then.

        Raises:
            Refused: it isn't this account's work, or not at this time.
            ConfigError: what is revoked can't be known.
        """
        found = self._delegation(envelope.delegation, envelope.delegation_signature, now, is_past)
        statement = _ascii("task", envelope.task)
        return found, task.verify(statement, envelope.task_signature, found.delegation, found.digest, now)

    def _delegation(self, text: str, signature: str, now: float, is_past: bool) -> Verified:
        verified = self._find(text, signature, now) or self._verify_delegation(text, signature, now, is_past)
        delegation.check(verified.delegation, self._host, now)
        kept = {key: known for key, known in self._known.items() if now < known[1].delegation.expires}
        self._known = kept | {text: (signature, verified)}  # never changed afterwards: another thread may go through it
        return verified

    def _find(self, text: str, signature: str, now: float) -> Verified | None:
        """Return the delegation if it was verified, with this signature, not long before `now`."""
        known = self._known.get(text)
        if known is None or known[0] != signature or not known[1].at <= now < known[1].at + AGAIN:
            return None
        return known[1]

    def _verify_delegation(self, text: str, signature: str, now: float, is_past: bool) -> Verified:
        statement = _ascii("delegation", text)
        trusted = self._trusted()
        if not trusted.signers:
            reasons = "; ".join(trusted.problems) or "no source names one"
            raise Refused(f"The site knows no key that may sign for {self._host.account} ({reasons}); add one")
        signed = _ascii("signature of the delegation", signature)
        key = verify(
            statement, signed, self._host.account, trusted.signers, trusted.revoked_keys, int(now) if is_past else None
        )
        said = delegation.read(statement)
        revoked_ids.check(said, trusted.revoked_ids)
        return Verified(said, digest(statement), key, now)


def _ascii(what: str, text: str) -> bytes:
    try:
        return text.encode("ascii")
    except UnicodeEncodeError:
        raise Refused(
            f"The {what} has characters that aren't ASCII; use a current version of twinlock-client"
        ) from None
