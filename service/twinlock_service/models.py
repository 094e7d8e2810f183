"""The bodies of requests, checked. Unknown fields are ignored: newer clients may send more than this service knows."""

from __future__ import annotations

import uuid
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, Field, ValidationError

from twinlock_service.errors import ApiError, Code
from twinlock_service.users import describe

MAX_PAYLOAD = 16 * 1024 * 1024
"""Characters of one task's packed arguments: 10 MiB of data, and what base64 adds to it."""

MAX_BODY = 128 * 1024 * 1024
"""Bytes of a request."""

MAX_OPTIONS = 512 * 1024
"""Bytes of a submission's options as JSON: manager endpoints read start commands of at most 1 MiB."""

Payload = Annotated[str, Field(max_length=MAX_PAYLOAD)]


class EndpointRegistration(BaseModel):
    """POST /v3/endpoints and PUT /v3/endpoints/{id}."""

    endpoint_name: str = Field(min_length=1, max_length=256)
    display_name: str | None = None
    multi_user: bool = False
    metadata: dict[str, Any] = {}
    allowed_functions: list[uuid.UUID] = []
    authentication_policy: uuid.UUID | None = None
    subscription_uuid: uuid.UUID | None = None
    public: bool = False
    high_assurance: bool = False
    admins: list[uuid.UUID] = []


class FunctionRegistration(BaseModel):
    """POST /v3/functions. `function_code` is a packed buffer, or with `serialized` false the source text."""

    function_name: str = Field(min_length=1, max_length=256)
    function_code: Payload
    serialized: bool = True
    meta: dict[str, Any] | None = None
    description: str | None = None
    public: bool = False


class Submission(BaseModel):
    """POST /v3/endpoints/{id}/submit. `tasks` holds by function the packed arguments of each call."""

    tasks: dict[uuid.UUID, list[Payload]] = Field(min_length=1)
    create_queue: bool = False
    task_group_id: uuid.UUID | None = None
    resource_specification: dict[str, Any] | None = None
    user_endpoint_config: dict[str, Any] | None = None
    user_runtime: dict[str, Any] | None = None
    result_serializers: list[str] | None = None


class BatchStatus(BaseModel):
    """POST /v2/batch_status."""

    task_ids: list[uuid.UUID]


T = TypeVar("T", bound=BaseModel)


async def read(request: web.Request, model: type[T]) -> T:
    """The request's body. ApiError: not JSON, or not what the model says."""
    body = await request.read()
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        malformed = any(each["type"] == "json_invalid" for each in error.errors(include_url=False))
        status = 400 if malformed else 422
        raise ApiError(status, Code.REQUEST_MALFORMED, f"bad request: {describe(error)}") from None


def uuid_in_path(request: web.Request, name: str) -> str:
    """A uuid of the request's path, in its canonical form. ApiError: it is none."""
    try:
        return str(uuid.UUID(request.match_info[name]))
    except ValueError:
        raise ApiError(400, Code.INVALID_UUID, f"`{request.match_info[name][:64]}` is not a uuid") from None
