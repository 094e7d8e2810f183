"""What a host goes by when it verifies an account's delegations: signers, and what is revoked. Any of it may change."""

from pathlib import Path
from typing import NamedTuple

from twinlock_signed.replay import revoked_ids
from twinlock_signed.replay.revoked_ids import Revoked
from twinlock_signed.settings import Settings
from twinlock_signed.ssh import revoked_keys, signer_sources


class Trusted(NamedTuple):
    """Whom the host believes about an account."""

    signers: bytes
    """An allowed_signers file, perhaps an empty one."""
    problems: tuple[str, ...]
    """Why sources have none, or lines in them don't count."""
    revoked_keys: bytes
    """A key revocation list, or a list of public keys."""
    revoked_ids: Revoked
    """What the account itself has revoked."""


def read(settings: Settings, account: str, home: Path) -> Trusted:
    """Return what holds now. Raise `ConfigError` if what is revoked can't be known: then nothing may run."""
    found = signer_sources.find(settings.signers, account)
    return Trusted(
        signers=signer_sources.lines(found),
        problems=tuple(problem for each in found for problem in _problems(each)),
        revoked_keys=revoked_keys.read(str(settings.revoked)) if settings.revoked else b"",
        revoked_ids=revoked_ids.read(home / revoked_ids.PLACE[2:]),
    )


def _problems(found: signer_sources.Found) -> list[str]:
    if found.problem:
        return [found.problem]
    return [f"{found.source}: {reason}" for reason in found.parsed.skipped]
