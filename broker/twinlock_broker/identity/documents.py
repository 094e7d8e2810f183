"""The mapping file as it stands on disk: a list of mapper documents in JSON (Globus' identity mapping guide)."""

import json
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from globus_identity_mapping.mappers.expression import ExpressionIdentityMapping
from globus_identity_mapping.mappers.external_program import ExternalIdentityMapping
from twinlock_common.site_files import load_json, read_file

_OURS = (ExpressionIdentityMapping.DATA_TYPE, ExternalIdentityMapping.DATA_TYPE)


def read_documents(path: Path) -> list[Any]:
    """Return the mapper documents in the file. Raise `OSError`, or `ValueError` if it holds no JSON list. Blocks."""
    documents = listed(load_json(read_file(path)))
    if not isinstance(documents, list):
        raise ValueError(f"has to be a list of mappers, [{{...}}, ...], not {type(documents).__name__}")
    return documents


def listed(content: object) -> object:
    """Return `content`, with a single mapper as a list of one.

    The files of Globus Connect Server itself hold a single object.
    """
    return [content] if isinstance(content, dict) else content


def require_known(documents: list[Any]) -> None:
    """Raise `ValueError` for a mapper of an unknown kind or version. Globus' library leaves some out silently."""
    ours = {kind.partition("#")[0] for kind in _OURS}
    plugins = {point.name for point in entry_points(group="globus_identity_mapping")} - ours
    for number, document in enumerate(documents):
        kind = document.get("DATA_TYPE") if isinstance(document, dict) else None
        if kind and kind not in _OURS and str(kind).partition("#")[0] not in plugins:
            known = " or ".join(_OURS)
            raise ValueError(f"mapper {number} has the DATA_TYPE {kind!r}, which isn't known: write {known}")


def in_words(error: Exception) -> str:
    """Return what is wrong with the file, for people; the library raises anything that a bad file provokes."""
    if isinstance(error, json.JSONDecodeError):
        return f"not valid JSON: {error}"
    if isinstance(error, KeyError):
        return f"a mapper lacks {error.args[0]!r}"
    return str(error) if isinstance(error, ValueError | OSError) else repr(error)
