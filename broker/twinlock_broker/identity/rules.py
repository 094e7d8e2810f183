"""Identity documents in files, as Globus Auth has them, and the rule of a mapping that one of them met."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from globus_identity_mapping.loader import load_mappers

from twinlock_broker.command_line import read_json
from twinlock_broker.errors import Fatal
from twinlock_broker.identity.documents import read_documents
from twinlock_broker.identity.mapping import POSIX_CONNECTOR, Match

_ANY = "00000000-0000-0000-0000-000000000000"
_TEXTS = ("username", "email", "name", "organization", "identity_provider", "identity_provider_display_name")
_BLANK = dict.fromkeys(_TEXTS, "") | {"last_authentication": None, "identity_type": "login", "status": "used"}


@dataclass(frozen=True, slots=True)
class Rule:
    """The mapper that matched, and of an expression mapper the mapping."""

    mapper: int
    """The mapper's place in the file, from 0."""
    mapping: int | None
    """The mapping's place in the mapper, from 0; None for a mapper that has no mappings."""
    words: str
    """The mapping for people, after `mapper N`; empty without a mapping."""

    def __str__(self) -> str:
        return f"mapper {self.mapper}{self.words}"


def read_identities(name: str) -> list[dict[str, Any]]:
    """Return one person's identity documents in the file `name`, each with both names of its uuid.

    A username, which has an @, may be given in place of a file; then the identity has no more than that.

    Raises:
        Fatal: 65, there is none; 66, the file can't be read.
    """
    given = "@" in name and not os.path.exists(name)  # noqa: PTH110 - of any length, without an exception
    found = {"id": _ANY, "username": name} if given else read_json(name)
    documents = found if isinstance(found, list) else [found]
    for document in documents:
        if not isinstance(document, dict) or not isinstance(document.get("id", document.get("sub")), str):
            raise Fatal(os.EX_DATAERR, f"{name}: an identity is a JSON object with a text under 'id' or 'sub'")
    ids = [item.get("id", item.get("sub")) for item in documents]
    return [_BLANK | {"id": found, "sub": found} | item for found, item in zip(ids, documents, strict=True)]


def describe_rule(path: Path, match: Match, identities: list[dict[str, Any]]) -> Rule:
    """Return the rule of the mapping at `path` that led to `match`."""
    index = next(number for number, matches in enumerate(match.candidates) if any(any(m.values()) for m in matches))
    number, words = _mapping(read_documents(path)[index], identities)
    return Rule(index, number, words)


def _mapping(document: dict[str, Any], identities: list[dict[str, Any]]) -> tuple[int | None, str]:
    """Return which of an expression mapper's mappings it was, and that in words."""
    for number, rule in enumerate(document.get("mappings") or ()):
        [alone] = load_mappers([document | {"mappings": [rule]}], POSIX_CONNECTOR, _ANY)
        if any(any(match.values()) for match in alone.map_identities(identities)):
            return number, f", mapping {number}: {rule['source']} matches {rule['match']}, so {rule['output']}"
    return None, ""
