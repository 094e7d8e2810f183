"""The examples of README and manuals, as they stand there."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docs_texts import ROOT
from twinlock_broker.errors import CommandError
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.oddities import oddities

ANY = "00000000-0000-0000-0000-000000000000"
UUID = "7b1f2f6e-0000-4000-8000-000000000001"


def blocks(page: str, language: str) -> Iterator[str]:
    """The blocks of a page that are in this language."""
    text = (ROOT / page).read_text()
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def accounts(path: Path, mapping: Any, sub: str, username: str) -> list[str]:
    """The accounts that a mapping has for this person, the first match first."""
    path.write_text(json.dumps(mapping))
    person = {"id": sub, "sub": sub, "username": username, "email": username, "status": "used"}
    try:
        return [match.user for match in Mapper(path, ANY).map([person])]
    except CommandError:
        return []


def test_the_examples_of_identity_mappings_map_whom_the_manual_says(tmp_path: Path) -> None:
    whole, person, program, *_ = (json.loads(text) for text in blocks("docs/identity-mapping.md", "json"))
    path = tmp_path / "map.json"
    assert oddities(whole) == []
    assert accounts(path, whole, ANY, "ada@example.org") == ["ada"]
    assert accounts(path, whole, ANY, "ada@example.org.evil.example") == []
    by_uuid = [whole[0] | {"mappings": [person]}]
    assert oddities(by_uuid) == []
    assert accounts(path, by_uuid, UUID, "ada@elsewhere.example") == ["ada"]
    assert accounts(path, by_uuid, ANY, "ada@elsewhere.example") == []
    assert set(program) == {"DATA_TYPE", "command"}


@pytest.mark.parametrize(
    ("match", "fits", "others"),
    [
        ("(phys-.*)@example\\.org", "phys-ada", "chem-ada"),
        ("(ada|grace)@example\\.org", "grace", "mallory"),
    ],
)
def test_the_expressions_in_the_text_map_whom_the_manual_says(
    tmp_path: Path, match: str, fits: str, others: str
) -> None:
    assert json.dumps(match)[1:-1] in (ROOT / "docs/identity-mapping.md").read_text()
    rule = {"source": "{username}", "match": match, "output": "{0}"}
    mapping = [{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": [rule]}]
    assert oddities(mapping) == []
    assert accounts(tmp_path / "map.json", mapping, ANY, f"{fits}@example.org") == [fits]
    assert accounts(tmp_path / "map.json", mapping, ANY, f"{others}@example.org") == []
