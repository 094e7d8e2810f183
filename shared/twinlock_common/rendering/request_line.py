"""A request as it is written to a worker: one line of JSON."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from twinlock_common.account import Account
from twinlock_common.rendering.configuration import Request
from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.reserved import Reserved


def dump(request: Request) -> bytes:
    """Return the line. Raise `RenderingError` for options that JSON can't carry."""
    try:
        values = asdict(request) | {"folder": request.folder.absolute()}  # the worker's own folder is another one
        return json.dumps(values, default=str).encode() + b"\n"
    except (RecursionError, ValueError) as error:
        raise RenderingError("The options are nested too deeply. Flatten user_endpoint_config") from error


def load(line: str) -> Request:
    """Return the request in a line that `dump` wrote."""
    values: dict[str, Any] = json.loads(line)
    reserved = values["reserved"]
    reserved["account"] = Account(**reserved["account"])
    return Request(**values | {"folder": Path(values["folder"]), "reserved": Reserved(**reserved)})
