"""The canary's function, its call and its result, in the forms of globus_compute_sdk.serialize, without the SDK.

The function is plain source (PureSourceTextInspect), arguments and result are JSON (JSONData). So nothing that comes
from the service or an endpoint is unpickled here.
"""

import hashlib
import json
import platform
import sys
from typing import Any

import globus_sdk

from twinlock_broker.compute.registration import AGENT_VERSION

NAME = "twinlock_canary"
"""The function's name."""
RESULT_SERIALIZERS = ["globus_compute_sdk.serialize.JSONData"]
"""The only form in which an endpoint may send the result."""
MOST = 1000
"""Characters of a result; anything longer is wrong."""

_SOURCE = f"def {NAME}(word):\n    return word\n"
_CODE, _DATA = "st\n", "11\n"


def function() -> dict[str, Any]:
    """Return the registration of the function."""
    about = "Twinlock's canary, which returns its argument"
    return {"function_name": NAME, "function_code": packed(f"{_CODE}{NAME}:{_SOURCE}"), "description": about}


def version() -> str:
    """Return what tells this function from those of other versions."""
    return hashlib.sha256(_SOURCE.encode()).hexdigest()


def submission(function_id: str, word: str, options: dict[str, Any]) -> dict[str, Any]:
    """Return the submission of one call of the function with this word, and with a user's options for the template."""
    call = packed(_DATA + json.dumps([word]), _DATA + "{}")
    return {
        "tasks": {function_id: [call]},
        "create_queue": False,
        "user_endpoint_config": options,
        "user_runtime": _runtime(),
        "result_serializers": RESULT_SERIALIZERS,
    }


def packed(*parts: str) -> str:
    """Return the parts as one text, each with its length before it."""
    return "".join(f"{len(part)}\n{part}" for part in parts)


def is_result(found: object, word: str) -> bool:
    """Return whether this is what the function returns for the word."""
    if not isinstance(found, str) or len(found) > MOST or not found.startswith(_DATA):
        return False
    try:
        return bool(json.loads(found.removeprefix(_DATA)) == word)
    except (ValueError, RecursionError):
        return False


def _runtime() -> dict[str, Any]:
    """Return what the SDK says about itself, its Python and its host: templates may use it."""
    return {
        "globus_compute_sdk_version": AGENT_VERSION,
        "globus_sdk_version": globus_sdk.__version__,
        "python_version": sys.version,
        "python": {
            "version": platform.python_version(),
            "version_description": sys.version,
            "version_tuple": sys.version_info[:3],
            "version_info": tuple(sys.version_info),
            "compiler": platform.python_compiler(),
            "implementation": platform.python_implementation(),
        },
        "platform": {
            "architecture": platform.architecture(),
            "machine": platform.machine(),
            "node": platform.node(),
            "platform": platform.platform(),
            "processor": platform.processor(),
            "release": platform.release(),
        },
    }
