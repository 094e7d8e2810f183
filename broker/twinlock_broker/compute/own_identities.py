"""Whom an endpoint serves in same-user mode: the identities of the login that registered it."""

import os

from twinlock_common.offload import Offload

from twinlock_broker.compute.login import Login
from twinlock_broker.compute.registration import identities
from twinlock_broker.config.folder import Folder
from twinlock_broker.errors import Fatal

LIMIT = 300.0
"""Seconds for Globus Auth's answer; globus-sdk's own limits and retries come first."""


async def own_identities(folder: Folder, login: Login) -> frozenset[str]:
    """Return the uuids of all identities of the login. Raise `Fatal` (70, 75, 77)."""
    try:
        return await Offload("rest", 1).run(LIMIT, lambda: identities(folder, login))
    except TimeoutError as error:
        text = f"Globus Auth didn't list the login's identities within {LIMIT:.0f} seconds; try again later"
        raise Fatal(os.EX_TEMPFAIL, text) from error
