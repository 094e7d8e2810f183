"""The broker's own file, broker.yaml, and how it fits the spawner's policy."""

import grp
from collections.abc import Iterator
from pathlib import Path

from twinlock_broker.checks.finding import Finding, Subject, failure, ok, unknown, warning
from twinlock_broker.config import policies
from twinlock_broker.config.placed import Placed
from twinlock_broker.config.settings import Settings, settle
from twinlock_broker.errors import Fatal


def settings(placed: Placed, folder: Path) -> Settings | Fatal:
    """Return the broker's settings for the endpoint folder, or what is wrong with the broker's file.

    Without a file the settings are the defaults.
    """
    try:
        return settle(placed.config, {"endpoint_dir": folder, "spawner_socket": placed.spawner_socket})
    except Fatal as error:
        return error


def check(config: Path | None, found: Settings | Fatal, policy: Path) -> Iterator[Finding]:
    """Check the broker's file `config` and its settings `found` against the policy."""
    if config is None:
        yield unknown(Subject.BROKER, "no broker.yaml names this folder; the broker's defaults are used")
    if isinstance(found, Fatal):
        yield from (failure(Subject.BROKER, line) for line in str(found).splitlines())
        return
    if config is not None:
        odd = list(_odd(found, policy))
        yield from odd or [ok(Subject.BROKER, f"{config}: keys and values, its groups and its socket")]


def _odd(found: Settings, policy: Path) -> Iterator[Finding]:
    for name in found.allow_groups:
        try:
            grp.getgrnam(name)
        except KeyError:
            yield warning(Subject.BROKER, f"allow_groups: there is no group {name!r} on this host")
    theirs = policies.read(policy).get("socket")
    if isinstance(theirs, str) and Path(theirs) != found.spawner_socket:
        yield warning(
            Subject.BROKER,
            f"the broker connects to {found.spawner_socket}, and the spawner of {policy} listens on {theirs}: "
            "make them the same, or name the right policy with --policy",
        )
