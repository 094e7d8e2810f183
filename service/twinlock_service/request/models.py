"""The bodies of requests, checked. Unknown fields are ignored: newer clients may send more than this service knows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from twinlock_service.errors import ApiError, Code, validation_faults
from twinlock_service.request.bodies import read_json

MAX_PAYLOAD = 16 * 1024 * 1024
"""Characters of one task's packed arguments: 10 MiB of data, and what base64 adds to it."""

MAX_BODY = 128 * 1024 * 1024
"""Bytes of a request."""

MAX_OPTIONS = 512 * 1024
"""Bytes of a submission's options as JSON: manager endpoints read start commands of at most 1 MiB."""

MAX_REGISTRATION = 1024 * 1024
"""Bytes of an endpoint's registration; most of them are its configuration, its template and its schema."""

MAX_RESOURCES = 16 * 1024
"""Bytes of a submission's resource_specification as JSON: it travels in the head of each task's message."""

MAX_FUNCTION = 2 * MAX_PAYLOAD
"""Bytes of a function's registration: JSON writes some characters as two."""

MAX_TASKS = 10_000
"""Tasks of a submission."""

MAX_IDS = 10_000
"""Ids in a question for the states of tasks."""

MAX_LISTED = 1_000
"""Functions and people that an endpoint's registration may list."""

MAX_QUESTION = 1024 * 1024
"""Bytes of a question for the states of tasks."""

MAX_DESCRIPTION = 64 * 1024
"""Characters of a function's description."""

MAX_META = 64 * 1024
"""Bytes of a function's `meta` as JSON; what the SDK says there is its version and Python's."""

MAX_REASON = 1_000
"""Characters of the text about what is wrong with a request."""


def _short_in_messages(text: str) -> str:
    # The messages to endpoints are JSON of ASCII, where such a character takes up to six.
    if not text.isascii() and 6 * len(text) > MAX_PAYLOAD:
        raise ValueError(f"it isn't pure ASCII, so it has to be shorter than {MAX_PAYLOAD // 6:,} characters")
    return text


Payload = Annotated[str, Field(max_length=MAX_PAYLOAD), AfterValidator(_short_in_messages)]
Payloads = Annotated[list[Payload], Field(max_length=MAX_TASKS, fail_fast=True)]
Listed = Annotated[list[uuid.UUID], Field(max_length=MAX_LISTED, fail_fast=True)]
ShortText = Annotated[str, Field(max_length=1024)]


class Body(BaseModel):
    """The body of a request, of at most `MAX_BYTES`."""

    MAX_BYTES: ClassVar[int] = MAX_BODY


class EndpointRegistration(Body):
    """POST /v3/endpoints and PUT /v3/endpoints/{id}."""

    MAX_BYTES = MAX_REGISTRATION

    endpoint_name: str = Field(min_length=1, max_length=256)
    display_name: ShortText | None = None
    multi_user: bool = False
    metadata: dict[str, Any] = {}
    """What the agent tells of itself, among it the manager's configuration, template and schema."""
    allowed_functions: Listed = []
    """The only functions that may run; all if it is empty."""
    authentication_policy: uuid.UUID | None = None
    """Refused: the service enforces none."""
    subscription_uuid: uuid.UUID | None = None
    public: bool = False
    """Whether everybody can find the endpoint; nobody gets access by that."""
    high_assurance: bool = False
    """Refused: the service has no such endpoints."""
    admins: Listed = []
    """Identities that may change the endpoint besides its owner."""


class FunctionRegistration(Body):
    """POST /v3/functions."""

    MAX_BYTES = MAX_FUNCTION

    function_name: str = Field(min_length=1, max_length=256)
    function_code: Payload
    """A packed buffer of the SDK's serializer, or the source text."""
    serialized: bool = True
    """False says that `function_code` is source text."""
    meta: dict[str, Any] | None = None
    """The versions of the SDK and of Python."""
    description: Annotated[str, Field(max_length=MAX_DESCRIPTION)] | None = None
    public: bool = False
    group: Any = None
    """Refused: the service knows no Globus groups."""
    ha_endpoint_id: Any = None
    """Refused: the service knows no high assurance."""


class Submission(Body):
    """POST /v3/endpoints/{id}/submit."""

    tasks: dict[uuid.UUID, Payloads] = Field(min_length=1, max_length=MAX_TASKS)
    """The packed arguments of each call, by function."""
    create_queue: bool = False
    """Ask for the queue of the task group, from which the SDK reads results."""
    task_group_id: uuid.UUID | None = None
    """None makes a new group."""
    resource_specification: dict[str, Any] | None = None
    """For the engine, such as MPI's `num_nodes`."""
    user_endpoint_config: dict[str, Any] | None = None
    """The user's options, for a manager endpoint's template."""
    user_runtime: dict[str, Any] | None = None
    """About the SDK and its Python."""
    result_serializers: Annotated[list[ShortText], Field(max_length=16, fail_fast=True)] | None = None
    """Import paths of the serializers that results may use."""


class BatchStatus(Body):
    """POST /v2/batch_status."""

    MAX_BYTES = MAX_QUESTION

    task_ids: Annotated[list[uuid.UUID], Field(max_length=MAX_IDS, fail_fast=True)]


T = TypeVar("T", bound=Body)


async def read(request: web.Request, model: type[T]) -> T:
    """Return the request's body. Raise `ApiError` if it isn't JSON, doesn't match the model, or is beyond a limit."""
    body = await read_json(request, model.MAX_BYTES)
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        malformed = error.error_count() == 1 and error.errors(include_url=False)[0]["type"] == "json_invalid"
        status = 400 if malformed else 422
        raise ApiError(
            status, Code.REQUEST_MALFORMED, f"bad request: {validation_faults(error)[:MAX_REASON]}"
        ) from None


def check_documents(submission: Submission) -> None:
    """Raise `ApiError` 413 if the options or the resource specification are too large for their messages."""
    options = _json_size([submission.user_endpoint_config, submission.user_runtime], MAX_OPTIONS)
    if options > MAX_OPTIONS:
        text = (
            f"user_endpoint_config and user_runtime have {options:,} bytes as JSON; at most {MAX_OPTIONS:,} are allowed"
        )
        raise ApiError(413, Code.REQUEST_MALFORMED, text)
    resources = _json_size(submission.resource_specification, MAX_RESOURCES)
    if resources > MAX_RESOURCES:
        text = f"resource_specification has {resources:,} bytes as JSON; at most {MAX_RESOURCES:,} are allowed"
        raise ApiError(413, Code.REQUEST_MALFORMED, text)


def check_meta(registration: FunctionRegistration) -> None:
    """Raise `ApiError` 413 if a function's `meta` is too large to be shown again and again."""
    size = _json_size(registration.meta, MAX_META)
    if size > MAX_META:
        text = f"meta has {size:,} bytes as JSON; at most {MAX_META:,} are allowed"
        raise ApiError(413, Code.REQUEST_MALFORMED, text)


def refuse_unenforced(what: str, fields: Mapping[str, object]) -> None:
    """Raise `ApiError` 422 if one of these fields is set: its owner would rely on what this service doesn't enforce."""
    for name, value in fields.items():
        if value:
            text = f"this service does not enforce `{name}` and refuses {what} that rely on it; leave it out"
            raise ApiError(422, Code.REQUEST_MALFORMED, text)


def uuid_in_path(request: web.Request, name: str) -> str:
    """Return a uuid of the request's path, in its canonical form. Raise `ApiError` if it isn't a uuid."""
    try:
        return str(uuid.UUID(request.match_info[name]))
    except ValueError:
        raise ApiError(400, Code.INVALID_UUID, f"`{request.match_info[name][:64]}` is not a uuid") from None


def _json_size(document: Any, limit: int) -> int:
    """Return the bytes of a document as JSON; if the characters of its texts alone exceed `limit`, their number."""
    characters = _characters(document)
    return characters if characters > limit else len(json.dumps(document))


def _characters(document: Any) -> int:
    """Count the characters of all texts in a document, without writing out the document, which may be large."""
    if isinstance(document, str):
        return len(document)
    if isinstance(document, dict):
        return sum(len(key) + _characters(value) for key, value in document.items())
    return sum(_characters(each) for each in document) if isinstance(document, list) else 0
