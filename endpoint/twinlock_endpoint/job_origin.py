"""Where a batch job comes from, in words that a scheduler keeps with the job, for administrators who see the job there.

Names of people come from a login service that the site doesn't run. Only characters are left of them that neither a
shell nor a scheduler takes for anything else, and no more than a few.
"""

import re
from dataclasses import dataclass
from typing import Literal

_NOT_IN_COMMENTS = re.compile(r"[^A-Za-z0-9@.+:/_-]")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_LONGEST_IN_COMMENTS = 80
_LONGEST_IN_NAMES = 40


@dataclass(frozen=True, slots=True)
class JobOrigin:
    """For whom and by which endpoint a job was submitted."""

    kind: Literal["person", "key"]
    """What is known: the person's name, or in verified mode the fingerprint of the key."""
    who: str
    """The name or the fingerprint, as it came."""
    endpoint: str
    """The user endpoint's uuid."""
    manager: str
    """The manager endpoint's uuid."""

    @property
    def comment(self) -> str:
        """All of it, without spaces. The commas and equal signs are ours."""
        who = _NOT_IN_COMMENTS.sub("_", self.who)[:_LONGEST_IN_COMMENTS]
        return f"{self.kind}={who},endpoint={self.endpoint},manager={self.manager}"

    @property
    def short(self) -> str:
        """The person or key, as the beginning of a job's name: some schedulers want a letter first."""
        who = _NOT_IN_NAMES.sub("_", self.who)[:_LONGEST_IN_NAMES]
        return who if who[:1].isalpha() else f"u{who}"

    @property
    def name(self) -> str:
        """All of it, as the beginning of a job's name, for schedulers without comments."""
        return f"{self.short}.{self.endpoint}.{self.manager}"
