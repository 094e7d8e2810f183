"""The start document that a user endpoint reads from its stdin; the agent's endpoint reads the same one.

It holds the queues' credentials. It travels in a sealed memfd, so that it never passes through the spawner's memory, a
file or a command line, and nobody can change it after it was checked.
"""

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinlock_common.document import JOB_PERSON, REQUEST, Entries

from twinlock_broker.identity.mapping import Match
from twinlock_broker.secret import Secret

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


@dataclass(frozen=True, slots=True)
class Document:
    """Everything in the start document except what is known only when it is sealed."""

    amqp: Secret[dict[str, Any]]
    """The endpoint's queues, with their credentials."""
    config: str
    """The rendered configuration, in YAML."""
    match: Match
    """The account, and the identity that was mapped to it."""
    allowed_functions: tuple[str, ...] | None
    """Uuids of the only functions that may run; None if all may."""
    environment: Mapping[str, str]
    """Variables for the endpoint and its tasks."""
    job_person: str | None = None
    """The person whom batch jobs are to name, as the service calls them; None if jobs name nobody."""

    def seal(self, parent: int, further: Entries, request: str = "") -> int:
        """Return a file descriptor of the sealed document, at its beginning; the caller closes it.

        `parent` is the spawner's pid. `further` goes in as it is. `request` is the start command's id, if there is one.
        """
        fd = os.memfd_create("twinlock-document", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(fd, "wb", closefd=False) as file:
                file.write(self._text(parent, further, request).encode())
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
            os.lseek(fd, 0, os.SEEK_SET)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _text(self, parent: int, further: Entries, request: str) -> str:
        info: dict[str, Any] = {"posix_ppid": parent} | ({REQUEST: request} if request else {})
        if self.match.identity is not None:
            info["globus_candidate_identities"] = self.match.candidates
            info["globus_matched_identity"] = self.match.identity
        if self.job_person is not None:
            info[JOB_PERSON] = self.job_person
        values: Entries = {
            "amqp_creds": self.amqp.reveal(),
            "config": self.config,
            "ep_info": info,
            "environment": dict(self.environment),
        } | further
        if self.allowed_functions is not None:
            values["allowed_functions"] = list(self.allowed_functions)
        return json.dumps(values)
