"""The delegations that this endpoint has taken, and the check of a task against its own.

Most tasks cost two signatures and no wait. A delegation that isn't known, or not any more, has ssh-keygen run and the
folder of claims read, in a thread and one at a time: those that come with it find it known.
"""

import asyncio
import logging
import syslog
import time
from dataclasses import dataclass

from twinlock_common.offload import in_thread
from twinlock_signed import delegation
from twinlock_signed.replay.claims import Claim, Claims
from twinlock_signed.statement import digest
from twinlock_signed.task import Task as SignedTask
from twinlock_signed.verifier import Envelope, Verified, Verifier

from twinlock_endpoint.verified.site import Site

log = logging.getLogger(__name__)

LARGE = 256 << 10
"""Bytes or characters from which on something is verified, signed or read in a thread."""

_UNUSED_S = 3600.0
"""Seconds after which a delegation that has expired, and of which no task came, is let go."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A task that the account's user has signed."""

    verified: Verified
    """The delegation."""
    task: SignedTask
    digest: str
    """The SHA-256 of the task's statement, in hexadecimal digits."""
    claim: Claim
    """Which numbers of the delegation have run."""
    options: str
    """The delegation's options, as `delegation.options` writes them."""

    @property
    def signer(self) -> str:
        """The key and the delegation, for logs."""
        of = self.verified
        return f"key={of.key.fingerprint} delegation={of.delegation.id}"

    @property
    def words(self) -> str:
        """The same with the number of the task, for logs."""
        return f"{self.signer} number={self.task.number}"


@dataclass(slots=True)
class _Taken:
    claim: Claim
    options: str
    expires: int
    used: float


class Delegations:
    """The delegations of one endpoint."""

    def __init__(self, site: Site, claims: Claims, endpoint_id: str, claimant: str) -> None:
        """Take delegations from `claims` under the name `claimant`, a uuid."""
        self._account = site.host.user
        self._claims = claims
        self._endpoint_id = endpoint_id
        self._claimant = claimant
        self._verifier = Verifier(site.host, site.trusted)
        self._taken: dict[str, _Taken] = {}
        self._one_at_a_time = asyncio.Lock()

    async def check(self, envelope: Envelope, at: float, *, is_past: bool = False) -> Signed:
        """Return the task of an envelope, whose number is still to be looked at.

        Args:
            envelope: what came.
            at: the time in seconds since 1970.
            is_past: the time is past, and the envelope was accepted then.

        Raises:
            Refused: the account's user hasn't signed it, or it isn't valid at that time, or another endpoint has it.
            ConfigError, OSError: a file that the decision needs can't be used.
        """
        if not self._knows(envelope, at):
            async with self._one_at_a_time:
                return await in_thread(lambda: self._check(envelope, at, is_past))
        if len(envelope.task) > LARGE:
            return await in_thread(lambda: self._check(envelope, at, is_past))
        return self._check(envelope, at, is_past)

    def _knows(self, envelope: Envelope, at: float) -> bool:
        return envelope.delegation in self._taken and self._verifier.knows(envelope, at)

    def _check(self, envelope: Envelope, at: float, is_past: bool) -> Signed:
        verified, task = self._verifier.verify(envelope, at, is_past=is_past)
        taken = self._taken.get(envelope.delegation) or self._take(envelope.delegation, verified)
        taken.used = time.time()
        return Signed(verified, task, digest(envelope.task.encode("ascii")), taken.claim, taken.options)

    def _take(self, text: str, verified: Verified) -> _Taken:
        now = time.time()
        self._let_go(now)
        claim = self._claims.take(verified.digest, verified.delegation, self._claimant)
        options = delegation.options(verified.delegation.user_endpoint_config)
        taken = self._taken[text] = _Taken(claim, options, verified.delegation.expires, now)
        words = f"account={self._account} key={verified.key.fingerprint} delegation={verified.delegation.id}"
        log.info("A delegation is accepted: %s, a key of type %s", words, verified.key.kind)
        syslog.openlog("twinlock-endpoint", syslog.LOG_PID, syslog.LOG_AUTH)
        syslog.syslog(syslog.LOG_INFO, f"{words} endpoint={self._endpoint_id}")
        return taken

    def _let_go(self, now: float) -> None:
        """Close the claims that no task needs any more: each is an open file."""
        for text, taken in list(self._taken.items()):
            if taken.expires < now and taken.used < now - _UNUSED_S:
                self._taken.pop(text).claim.close()
