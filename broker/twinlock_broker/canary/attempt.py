"""One task of the canary: login, submission, wait, result. It polls, since the result's queue would need the SDK."""

import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import globus_sdk
from globus_sdk.authorizers import GlobusAuthorizer

from twinlock_broker.canary import payload
from twinlock_broker.canary.functions import KnownFunction
from twinlock_broker.canary.settings import Canary
from twinlock_broker.canary.verdict import Status
from twinlock_broker.compute.login import COMPUTE_SCOPES
from twinlock_broker.compute.registration import compute_client, environment
from twinlock_broker.config.folder import Folder
from twinlock_broker.printable import printable

LOGIN = "login"
SUBMISSION = "submission"
WAIT = "waiting at the service"
ENDPOINT = "endpoint"
RESULT = "result"
"""The steps, as the line names them."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 5.0
_SLOWER = 1.1  # so a pause is about a tenth of the time so far, and the service isn't asked hundreds of times
_LONGEST_STATE = 40
_LONGEST_TEXT = 300
_REFUSED = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_NOT_THERE = (HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND)


class Failed(Exception):
    """The step that failed, and why."""

    def __init__(self, status: Status, text: str) -> None:
        super().__init__(text)
        self.status = status


class Attempt:
    """One task for the manager endpoint `endpoint_id`, whose `folder` says where the service is.

    Nothing here has a limit of time: whoever waits may interrupt it anywhere, and ask `progress`.
    """

    def __init__(self, folder: Folder, endpoint_id: str, canary: Canary, known: KnownFunction) -> None:
        self._folder = folder
        self._endpoint_id = endpoint_id
        self._canary = canary
        self._known = known
        self._step = LOGIN
        self._state = ""
        self._authorizer: GlobusAuthorizer | None = None

    @property
    def progress(self) -> str:
        """The step that was reached, and what the service said last of the task."""
        return f"{self._step} (the task is {self._state})" if self._state else self._step

    def run(self) -> None:
        """Have a task run, and return when its result is the right one. Raise `Failed`, and `Fatal` (66, 73)."""
        try:
            self._run()
        except globus_sdk.GlobusAPIError as error:
            raise self._refused(error) from error
        except (globus_sdk.NetworkError, OSError) as error:
            raise Failed(Status.CRITICAL, f"{self._step}: can't be reached: {error}") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, globus_sdk.GlobusError) as error:
            raise Failed(Status.CRITICAL, f"{self._step}: an answer can't be used: {error!r}") from error

    def endpoint_state(self) -> str:
        """Return what the service says of the manager endpoint, such as `offline`; empty if it says nothing."""
        if self._step != WAIT:
            return ""
        try:
            with self._client(globus_sdk.ComputeClientV2) as client:
                return printable(str(client.get_endpoint_status(self._endpoint_id)["status"]), _LONGEST_STATE)
        except (globus_sdk.GlobusError, ValueError, TypeError, KeyError):
            return ""

    def _run(self) -> None:
        self._authorizer = self._canary.login.authorizer(environment(self._folder), COMPUTE_SCOPES)
        self._step = SUBMISSION
        word = str(uuid.uuid4())
        with self._client(globus_sdk.ComputeClientV3) as client:
            task = self._submit(client, word)
        self._step = WAIT
        found = self._wait(task)
        self._step, self._state = RESULT, ""
        if not payload.is_result(found, word):
            raise Failed(Status.CRITICAL, f"{RESULT}: not what the function returns: {_shown(found)}")

    def _submit(self, client: globus_sdk.ComputeClientV3, word: str) -> str:
        """Submit the task, with the function that is known already if the service still has it. Return its uuid."""
        known = self._known.read()
        if known is not None:
            try:
                return self._submit_call(client, known, word)
            except globus_sdk.GlobusAPIError as error:
                if error.http_status not in _NOT_THERE or self._has_function(known):
                    raise
        answer = client.register_function(payload.function())
        function = str(uuid.UUID(answer["function_uuid"]))
        self._known.write(function)
        return self._submit_call(client, function, word)

    def _submit_call(self, client: globus_sdk.ComputeClientV3, function: str, word: str) -> str:
        answer = client.submit(self._endpoint_id, payload.submission(function, word, self._canary.options))
        (task,) = answer["tasks"][function]
        return str(uuid.UUID(task))

    def _has_function(self, function: str) -> bool:
        try:
            with self._client(globus_sdk.ComputeClientV2) as client:
                client.get_function(function)
        except globus_sdk.GlobusAPIError as error:
            return error.http_status not in _NOT_THERE
        return True

    def _wait(self, task: str) -> object:
        """Return the task's result, whenever it comes. Raise `Failed` with the error that a user would get."""
        pause = _FIRST_PAUSE_S
        with self._client(globus_sdk.ComputeClientV2) as client:
            while True:
                found = client.get_task(task).data
                if not isinstance(found, Mapping):
                    raise TypeError("no JSON object")
                if found.get("exception") is not None:
                    raise Failed(Status.CRITICAL, f"{ENDPOINT}: {_shown(found['exception'])}")
                if found.get("result") is not None:
                    return found["result"]
                self._state = printable(str(found.get("status")), _LONGEST_STATE)
                time.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, _SLOWER * pause)

    def _client(self, kind: Any) -> Any:
        assert self._authorizer is not None
        return compute_client(kind, self._folder, self._authorizer)

    def _refused(self, error: globus_sdk.GlobusAPIError) -> Failed:
        said = _shown(f"{error.http_status} {error.message or error.text}")
        wrong_login = isinstance(error, globus_sdk.AuthAPIError) and error.http_status in _REFUSED
        if wrong_login or error.http_status == HTTPStatus.UNAUTHORIZED:
            return Failed(Status.UNKNOWN, f"{LOGIN}: refused ({said}); correct the login in the canary's file")
        return Failed(Status.CRITICAL, f"{self._step}: refused ({said})")


def _shown(found: object) -> str:
    return printable(found if isinstance(found, str) else repr(type(found)), _LONGEST_TEXT)
