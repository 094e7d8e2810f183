"""The check whether the installed Parsl is one that this release of Twinlock works with."""

import re

from twinlock_endpoint.errors import ConfigError
from twinlock_endpoint.htex.compat import executor, on_demand, pools

OLDEST = "2026.10.19"
NEWEST = "2026.10.26"
"""The range of releases, as in pyproject.toml. The tests run with both."""

_AT_START = (*executor.USES, *pools.USES)
USES = (*_AT_START, *on_demand.USES)


def require() -> None:
    """Check Parsl's release and the names that every endpoint uses, which takes a few milliseconds.

    The others are left to the tests: here they would load all of Parsl.

    Raises:
        ConfigError: Parsl isn't supported, or damaged.
    """
    release = installed()
    if not _numbers(OLDEST) <= _numbers(release) <= _numbers(NEWEST):
        raise ConfigError(
            f"Parsl {release} is not supported; this release of Twinlock works with {OLDEST} to {NEWEST}."
        )
    missing = [use.name for use in _AT_START if not use.is_there()]
    if missing:
        raise ConfigError(f"Parsl {release} isn't as it was released; it differs in {', '.join(missing)}.")


def installed() -> str:
    """Return the installed release of Parsl, as the registry writes it: Parsl's own text has zeros, 2026.07.27."""
    from parsl.version import VERSION

    return re.sub(r"\.0+(?=\d)", ".", VERSION)


def _numbers(release: str) -> tuple[int, ...]:
    """Return the release's numbers. What follows a number, as in an alpha's 2026.10.26a0, doesn't count."""
    return tuple(int(number) for number in re.findall(r"(?:^|\.)(\d+)", release))
