"""The examples of README and manuals, as they stand there."""

import json
import os
import pwd
import re
import shlex
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from docs_texts import ROOT
from twinlock_broker.commands import render
from twinlock_broker.errors import CommandError
from twinlock_broker.identity.account import look_up
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.oddities import oddities
from twinlock_common.rendering.configuration import Request, configure
from twinlock_common.rendering.reserved import Reserved
from twinlock_endpoint import engines
from twinlock_endpoint.config import configuration

ANY = "00000000-0000-0000-0000-000000000000"
UUID = "7b1f2f6e-0000-4000-8000-000000000001"


def blocks(page: str, language: str) -> Iterator[str]:
    """The blocks of a page that are in this language."""
    text = (ROOT / page).read_text()
    yield from re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def options_in_the_papers() -> list[dict[str, Any]]:
    """The options that examples pass, in scripts, commands and text."""
    papers = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), Path(render.__file__)]
    texts = [text for path in papers for text in re.findall(r'\{"account[^{}]*\}', path.read_text())]
    return [json.loads(text) for text in dict.fromkeys(texts)]


def templates() -> dict[str, tuple[str, dict[str, Any] | None]]:
    """The papers' templates and the one that `configure` writes, each with the schema that stands beside it."""
    examples = resources.files("twinlock_broker") / "examples"
    schema = json.loads((examples / "user_config_schema.json").read_text())
    found = {"configure": ((examples / "user_config_template.yaml.j2").read_text(), schema)}
    for page in ("README.md", "docs/templates.md"):
        whole = [text for text in blocks(page, "yaml") if text.startswith("engine:")]
        schemas = [json.loads(text) for text in blocks(page, "json")]
        found |= {
            f"{page}, template {number}": (text, schemas[0] if schemas else None) for number, text in enumerate(whole)
        }
    return found


def rendering(template: str, schema: dict[str, Any] | None, chosen: dict[str, Any]) -> str:
    """What the broker makes of it, for an account of this host."""
    own = look_up(pwd.getpwuid(os.getuid()).pw_name)
    return configure(Request(template, Path("/nonexistent"), schema, chosen, Reserved({}, {}, own, None, {})))


@pytest.mark.parametrize("name", templates())
def test_the_papers_options_fit_their_templates_and_the_one_that_configure_writes(name: str) -> None:
    template, schema = templates()[name]
    known = options_in_the_papers()
    assert {"account_id": "physics-2026"} in known
    for chosen in known:
        read = configuration.load(rendering(template, schema, chosen))
        assert engines.build(read.engine).max_workers >= 1


def test_the_lines_for_a_cluster_in_the_template_that_configure_writes(tmp_path: Path) -> None:
    template, schema = templates()["configure"]
    cluster = re.sub(
        r"^    # (?=[a-z]+: )", "    ", template.replace("    type: LocalProvider\n", ""), flags=re.MULTILINE
    )
    engine = configuration.load(rendering(cluster, schema, {"account_id": "physics-2026"})).engine
    assert (engine["provider"]["type"], engine["provider"]["account"]) == ("SlurmProvider", "physics-2026")
    assert engines.build(engine).max_workers >= 1


def test_the_example_of_keys_gives_the_shell_what_the_manual_says() -> None:
    page = (ROOT / "docs/templates.md").read_text()
    [binds] = (json.loads(text) for text in re.findall(r'\{"binds": \{.*?\}\}', page))
    [block] = (text for text in blocks("docs/templates.md", "yaml") if text.startswith("worker_init:"))
    text = yaml.safe_load(rendering(f"engine: {{type: X}}\n{block}", None, binds))["worker_init"]
    assert shlex.split(text) == ["run", "--bind", "/scratch:/data"]


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
