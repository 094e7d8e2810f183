"""What the agent's manager gives a user endpoint in place of our control socket, so that ours runs under it as well.

`mem_fd` is a file in memory with the newest credentials, JSON in a Fernet token whose key is `enckey`: the manager
overwrites it with each start command. `audit_fd` is a pipe for a high assurance endpoint's records, a packet each.
"""

import json
import os
from typing import Any

_MOST = 1 << 20


class SharedCredentials:
    """The file at the descriptor `fd`, with the key `key`; ValueError if that can't be one."""

    def __init__(self, fd: int, key: str) -> None:
        # Only under the agent's manager: the package is a large one.
        from cryptography.fernet import Fernet, InvalidToken

        self._fd = fd
        self._fernet = Fernet(key)
        self._unreadable = (OSError, InvalidToken, ValueError, KeyError, TypeError)

    def read(self) -> dict[str, Any] | None:
        """Return the newest `amqp_creds`; None while there are none, or if they can't be read."""
        try:
            found = json.loads(self._fernet.decrypt(os.pread(self._fd, _MOST, 0)))
            creds: dict[str, Any] = found["amqp_creds"]
        except self._unreadable:
            return None
        return creds


class AuditPipe:
    """The pipe at the descriptor `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, records: list[str]) -> bool:
        """Write the records into the pipe, from which the manager writes its log; return whether it has them."""
        try:
            for record in records:
                os.write(self._fd, record.encode())
        except OSError:
            return False
        return True
