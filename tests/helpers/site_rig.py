"""What system tests say about a site: who is there, and what a person's script comes back with."""

import pwd
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twinlock_testbed.manager import Manager, Setup
from twinlock_testbed.scripts import Outcome, Script
from twinlock_testbed.service import DOMAIN, Person, Service

USERS = ("twl-ada", "twl-bob")
"""Accounts that people are mapped to."""

STRANGER = "carol@elsewhere.example"
GHOST = f"twl-ghost@{DOMAIN}"
ROOT = f"root@{DOMAIN}"
DAEMON = f"daemon@{DOMAIN}"
ADA, BOB = (f"{name}@{DOMAIN}" for name in USERS)
PEOPLE = (ADA, BOB, STRANGER, GHOST, ROOT, DAEMON)

RESULT_TIMEOUT = 300.0
"""Seconds after which a future is taken for one that waits for ever."""


Launch = Callable[[str, Setup], Manager]
"""Starts a manager endpoint in a folder of that name."""


@dataclass(frozen=True)
class World:
    """The site that all system tests share."""

    prefix: Path
    """Where the programs are installed."""
    folder: Path
    """A folder that every account may enter."""
    service: Service
    accounts: Mapping[str, pwd.struct_passwd]
    """The local accounts, by name."""
    broker_user: str
    """The account of all brokers."""

    def script(
        self, who: str, endpoint_id: str, *configs: Mapping[str, Any], tasks: int = 1, seconds: float = 0.0
    ) -> Script:
        """A script of `who` that has just submitted; each task takes so many `seconds`."""
        person: Person = self.service.people[who]
        return Script(
            self.prefix, person, endpoint_id, configs, folder=self.folder, tasks=tasks, seconds=seconds, user="nobody"
        )

    def run(self, who: str, endpoint: Manager | str, *configs: Mapping[str, Any], tasks: int = 1) -> list[Outcome]:
        """Every outcome of such a script."""
        endpoint_id = endpoint if isinstance(endpoint, str) else endpoint.endpoint_id
        return self.script(who, endpoint_id, *configs, tasks=tasks).outcomes(RESULT_TIMEOUT)


def eventually(done: Callable[[], bool], seconds: float) -> bool:
    """Whether something comes true in so many seconds."""
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
