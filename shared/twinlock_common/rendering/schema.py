"""A site's schema for options: JSON schema, in the version that its `$schema` names."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import jsonschema
import referencing.exceptions

from twinlock_common.rendering.errors import RenderingError
from twinlock_common.site_files import load_json


def parse(text: str) -> dict[str, Any]:
    """Return the schema in the text of a file. Raise `ValueError`, for the administrator, if it can't be used."""
    schema = load_json(text)
    if schema is True:
        return {}  # JSON schema's short form of "anything"
    if not isinstance(schema, dict):
        raise ValueError("has to be a JSON object")
    if not isinstance(schema.get("$schema", ""), str):
        raise ValueError('"$schema" has to be the address of a version of JSON schema, a text')
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as error:
        raise ValueError(f"not valid as a JSON schema: {error.json_path}: {error.message}") from error
    return schema


def check_options(options: Mapping[str, Any], schema: dict[str, Any]) -> None:
    """Raise `RenderingError` for options that the schema refuses."""
    validator = jsonschema.validators.validator_for(schema)(schema)
    with applied():
        error = jsonschema.exceptions.best_match(validator.iter_errors(options))
    if error is not None:
        where = f"option {error.json_path[2:]}: " if error.path else ""
        raise RenderingError(
            f"The options don't fit this endpoint's schema: {where}{error.message[:500]}. Mend user_endpoint_config"
        )


@contextlib.contextmanager
def applied() -> Iterator[None]:
    """Turn errors of a schema that can't be used into `RenderingError` with a detail, while the block applies it."""
    try:
        yield
    except (referencing.exceptions.Unresolvable, RecursionError) as error:
        reason = "its $ref lead in a circle" if isinstance(error, RecursionError) else f"$ref: {error}"
        text = "This endpoint's schema for options can't be used. Tell the endpoint's administrator"
        raise RenderingError(text, f"the schema can't be used: {reason}") from error
