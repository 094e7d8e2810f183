"""What is odd in an identity mapping: it loads, and maps nobody, or somebody else."""

import json
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from broker_rig import UEP, identity
from twinlock_broker.errors import CommandError
from twinlock_broker.identity.mapping import Mapper
from twinlock_broker.identity.oddities import oddities

GOOD = {"source": "{username}", "match": "(.*)@site\\.example", "output": "{0}"}
EXTERNAL = "external_identity_mapping#1.0.0"


def expression(*mappings: Any) -> dict[str, Any]:
    """A mapper of these mappings."""
    return {"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappings": list(mappings)}


@pytest.mark.parametrize(
    "rule",
    [
        GOOD,
        GOOD | {"match": "(a.*|b.*)@(cs|math)\\.site\\.example", "output": "{1}-{0}"},
        GOOD | {"match": "a.?b*@x\\.y", "output": "x", "ignore_case": True},
        {"source": "{id}", "match": "7b1f2f6e-0000-4000-8000-000000000001", "output": "ada", "literal": True},
        {"source": "{email}", "match": "a+b@site.example", "output": "{name}", "literal": True},
        {"source": "{id}/{identity_provider}", "match": "\\(x\\)/y", "output": "ada"},
    ],
)
def test_nothing_is_odd_in_a_mapping_that_is_meant_so(rule: dict[str, Any]) -> None:
    assert oddities([expression(rule)]) == []


def test_nothing_is_odd_in_the_example_that_configure_writes() -> None:
    example = resources.files("twinlock_broker") / "examples/identity_mapping_config.json"
    assert oddities(json.loads(example.read_text())) == []


@pytest.mark.parametrize(
    ("match", "characters"),
    [
        ("([a-z].*)@site\\.example", "[ ]"),
        ("(.{3})@site\\.example", "{ }"),
        ("(.+)@site\\.example", "+"),
        ("^(.*)@site\\.example$", "$ ^"),
    ],
)
def test_characters_that_stand_for_themselves(tmp_path: Path, match: str, characters: str) -> None:
    documents = [expression(GOOD), expression(GOOD, GOOD | {"match": match})]
    [text] = oddities(documents)
    assert text.startswith(f"Mapper 1, mapping 1: {characters} in ")
    assert "write . for any character" in text
    (tmp_path / "map.json").write_text(json.dumps([documents[1] | {"mappings": documents[1]["mappings"][1:]}]))
    with pytest.raises(CommandError, match="None of your identities maps"):
        Mapper(tmp_path / "map.json", UEP).map([identity()])


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"match": "(?P<user>.*)@site\\.example"}, "write (...), and {0} for it"),
        ({"match": "(?:a|b)@site\\.example", "output": "x"}, "(?...)"),
        ({"output": "{1}"}, '{1}, but "match" has one group, counted from {0}'),
        ({"output": "{-1}"}, "{-1}"),
        ({"match": "(a)(b)", "output": "{2}"}, "2 groups"),
        ({"match": "ada@site.example", "literal": True}, '{0}, but "match" has no group'),
        ({"output": "{user}"}, "{user}, which no identity has"),
        ({"output": "{user_name}"}, "write {username}"),
        ({"source": "{usernme}"}, "write {username}"),
        ({"source": "{0}"}, 'groups are for "output" only'),
        ({"source": "username"}, "is the same for everybody"),
        ({"match": "ada@site\\.example|bob@site\\.example", "output": "x"}, "write (...|...)"),
        ({"match": "(.*)@site.example"}, "write \\\\. for a dot"),
        ({"match": "(.*)@site\\.example", "output": "x", "literal": True}, 'because of "literal"'),
        ({"match": "\\d*@site"}, "refused by Globus' mapping language"),
        ({"match": "(.*@site"}, "refused by Globus' mapping language"),
        ({"ignorecase": True}, 'write "ignore_case"'),
        ({"ignore_case": "false"}, "\"ignore_case\": 'false', which counts as true"),
        ({"comment": "x"}, "'comment', which nothing reads"),
        ({"match": None}, 'null as "match"'),
    ],
)
def test_what_is_odd_in_a_mapping(rule: dict[str, Any], words: str) -> None:
    found = oddities([expression(GOOD, GOOD | rule)])
    assert any(words in text for text in found), found
    assert all(text.startswith("Mapper 0, mapping 1") for text in found)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ([], "list of mappers is empty"),
        ("x", "holds a text"),
        (None, "holds null"),
        ([3], "Mapper 0 is a number"),
        ([{}], 'Mapper 0 has no "DATA_TYPE"'),
        ([{"DATA_TYPE": "astrology#1.0.0"}], "'astrology#1.0.0'"),
        ([expression()], 'Mapper 0 has an empty list as "mappings"'),
        ([expression("x")], "Mapper 0, mapping 0 is a text"),
        ([{"DATA_TYPE": "expression_identity_mapping#1.0.0", "mappers": [GOOD]}], 'write "mappings"'),
        ([expression() | {"mappings": GOOD}], 'an object as "mappings": write a list'),
        ([{"DATA_TYPE": EXTERNAL, "command": "/bin/who-is --site a"}], "'/bin/who-is --site a': write a list"),
        ([{"DATA_TYPE": EXTERNAL, "command": []}], 'an empty list as "command"'),
        ([{"DATA_TYPE": EXTERNAL, "command": ["/no/such/program"]}], "'/no/such/program', which isn't a program"),
    ],
)
def test_what_is_odd_in_a_file(content: Any, words: str) -> None:
    assert any(words in text for text in oddities(content)), oddities(content)


def test_a_program_that_is_there_is_not_odd() -> None:
    assert oddities([{"DATA_TYPE": EXTERNAL, "command": ["/bin/cat", 1]}]) == []


def test_an_open_choice_is_as_dangerous_as_the_warning_says(tmp_path: Path) -> None:
    rule = GOOD | {"match": "alice@site\\.example|bob@site\\.example", "output": "alice"}
    (tmp_path / "map.json").write_text(json.dumps([expression(rule)]))
    stranger = identity(username="alice@site.example.evil.example")
    assert Mapper(tmp_path / "map.json", UEP).map([stranger])[0].user == "alice"
    (tmp_path / "map.json").write_text(json.dumps([expression(rule | {"match": f"({rule['match']})"})]))
    with pytest.raises(CommandError):
        Mapper(tmp_path / "map.json", UEP).map([stranger])


def test_nothing_is_odd_in_a_single_mapper_without_its_list() -> None:
    assert oddities(expression(GOOD)) == []
