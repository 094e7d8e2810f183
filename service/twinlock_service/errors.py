"""The two ways in which things go wrong: a request that is answered with an error, a service that can't start."""

from __future__ import annotations

import enum

from pydantic import ValidationError

MOST_DESCRIBED = 1_000
"""Faults of a document that are described one by one: to describe one takes some microseconds."""


class Code(enum.IntEnum):
    """The hosted service's error codes, as far as this one has the errors."""

    USER_UNAUTHENTICATED = 1
    FUNCTION_NOT_FOUND = 3
    ENDPOINT_NOT_FOUND = 4
    TASK_NOT_FOUND = 6
    FUNCTION_ACCESS_FORBIDDEN = 8
    ENDPOINT_ACCESS_FORBIDDEN = 9
    FUNCTION_NOT_PERMITTED = 10
    REQUEST_MALFORMED = 17
    INTERNAL_ERROR = 18
    TASK_GROUP_NOT_FOUND = 20
    INVALID_UUID = 22
    ENDPOINT_LOCKED = 23


class ApiError(Exception):
    """A request can't be served. The caller gets `http_status` and a body with `code` and `reason`."""

    def __init__(self, http_status: int, code: Code, reason: str) -> None:
        super().__init__(reason)
        self.http_status = http_status
        self.code = code
        self.reason = reason
        """For the caller: what is wrong, and what to do."""

    def body(self) -> dict[str, object]:
        """Return the error document that globus-sdk and the agent expect. globus-sdk shows `message`."""
        return {
            "status": "Failed",
            "code": int(self.code),
            "reason": self.reason,
            "message": self.reason,
            "http_status_code": self.http_status,
        }


class StartError(Exception):
    """The service can't start or go on. The text says what to do."""

    def __init__(self, exit_code: int, text: str) -> None:
        super().__init__(text)
        self.exit_code = exit_code
        """Of sysexits(3)."""


def validation_faults(error: ValidationError) -> str:
    """Describe in one line what pydantic found, without the input, which may hold secrets or a user's data."""
    if error.error_count() > MOST_DESCRIBED:
        return f"document: it has {error.error_count():,} faults"
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'document'}: {each['msg']}" for each in found)
