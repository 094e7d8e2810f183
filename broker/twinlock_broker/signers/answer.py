"""The answer about an account's signers, checked: it comes from a process that runs as the account.

The account's other processes can stop that process, or answer in its place. So no text of it is more than that.
"""

import json
import os
import sys
from typing import Any

import jsonschema

from twinlock_broker.errors import Fatal
from twinlock_broker.printable import printable, printable_lines

_LONGEST = 1000
"""Characters of a text."""

_TEXT = {"type": "string"}
_COUNT = {"type": "integer", "minimum": 0, "maximum": 1 << 32}
_FLAG = {"type": "boolean"}


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(properties),
        "properties": properties,
    }


def _list(of: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": of, "maxItems": 1000}


_SIGNER = _object(
    kind=_TEXT,
    bits=_COUNT,
    fingerprint={"type": "string", "pattern": r"^(SHA256:[A-Za-z0-9+/]{43})?\Z"},
    is_authority=_FLAG,
    principals=_TEXT,
    valid_after=_TEXT,
    valid_before=_TEXT,
    problem=_TEXT,
)
_SOURCE = _object(
    source=_TEXT,
    problem=_TEXT,
    signers=_list(_SIGNER),
    more_signers=_COUNT,
    skipped=_list(_TEXT),
    more_skipped=_COUNT,
)
SHAPE = _object(
    site={"type": "string", "pattern": r"^[a-z0-9.-]{1,253}\Z"},
    manager={"type": "string", "pattern": r"^[0-9a-f-]{36}\Z"},
    sources=_list(_SOURCE),
    revoked=_object(delegations=_list(_TEXT), more_delegations=_COUNT, before=_TEXT),
    problems=_list(_TEXT),
    result_key={"type": "string", "pattern": r"^([0-9a-f]{64})?\Z"},
    no_result_key=_TEXT,
)
"""The JSON schema of what was found. `problems` says why nothing of the account's runs; `revoked` is the user's own."""


def read(text: bytes) -> dict[str, Any]:
    """Return what was found, without anything that a terminal acts upon.

    Raises:
        Fatal: 70, it isn't an answer; 78, a file of the administrator, or the account, can't be used.
    """
    try:
        whole = json.loads(text)
        if isinstance(whole, dict) and isinstance(whole.get("error"), str):
            raise Fatal(os.EX_CONFIG, printable_lines(whole["error"][: 10 * _LONGEST]))
        jsonschema.validate(whole, _object(found=SHAPE))
    except (ValueError, RecursionError) as error:
        why = f"the process that looks at the account's files has no answer; can the account run {sys.executable}?"
        raise Fatal(os.EX_SOFTWARE, why) from error
    except jsonschema.ValidationError as error:
        reason = printable(f"{error.json_path}: {error.message}", _LONGEST)
        why = f"the process that looks at the account's files has an answer of another form: {reason}; try again"
        raise Fatal(os.EX_SOFTWARE, why) from error
    found: dict[str, Any] = _shown(whole["found"])
    return found


def _shown(value: Any) -> Any:
    """Return the value with all its texts printable."""
    if isinstance(value, str):
        return printable(value, _LONGEST)
    if isinstance(value, list):
        return [_shown(part) for part in value]
    return {name: _shown(part) for name, part in value.items()} if isinstance(value, dict) else value
