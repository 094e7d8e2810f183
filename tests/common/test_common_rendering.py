"""Rendering: what the agent's templates may rely on, and that an option is never more than a value."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import assume, example, given
from hypothesis import strategies as st
from twinlock_common.account import Account
from twinlock_common.rendering import containment, options, template, validate
from twinlock_common.rendering.errors import RenderingError
from twinlock_common.rendering.reserved import Reserved
from twinlock_common.rendering.template import render, shell_escape

TEMPLATE = """\
engine:
  type: GlobusComputeEngine
  provider:
    type: LocalProvider
    account: {{ account_id }}
    walltime: {{ walltime|default("00:30:00") }}
"""
ACCOUNT = Account("ada", 1234, 100, (100, 200), "Ada\n evil: x", "/bin/bash", "/home/ada")
RUNTIME = {"globus_compute_sdk_version": "4.19.0", "python": {"version": "3.11.2", "version_tuple": [3, 11, 2]}}
RESERVED = Reserved(
    {"heartbeat_period": 30.0, "user_config_template_path": Path("t.j2")},
    RUNTIME,
    ACCOUNT,
    "some-uuid",
    {"HOME": "/home/ada", "SITE": "x"},
)
NOWHERE = Path("/nonexistent")


def made(text: str, chosen: dict[str, Any] | None = None, folder: Path = NOWHERE) -> Any:
    """The configuration that comes out."""
    options.check(chosen or {}, None)
    return yaml.safe_load(render(text, folder, chosen or {}, RESERVED))


def test_options_and_defaults() -> None:
    provider = made(TEMPLATE, {"account_id": "phys-1"})["engine"]["provider"]
    assert provider == {"type": "LocalProvider", "account": "phys-1", "walltime": "00:30:00"}


def test_a_missing_option_is_named() -> None:
    with pytest.raises(RenderingError, match="needs the option 'account_id': pass it in user_endpoint_config"):
        made(TEMPLATE)


@pytest.mark.parametrize(
    ("name", "unknown"),
    [
        ("parent_config.heartbeat_period", "parent_config"),
        ("_GC.parent_config.heartbeat_period", "parent_config"),
        ("mapped_identity.globus.id", "globus"),
        ("_GC.mapped_identity.globus.id", "globus"),
    ],
)
def test_what_only_the_manager_endpoint_says(name: str, unknown: str) -> None:
    """Where it isn't believed, what it says is undefined, and what the account is stays."""
    reserved = replace(RESERVED, parent_config=None, identity="some-uuid")
    with pytest.raises(RenderingError, match=f"uses '{unknown}', which isn't known in verified mode"):
        render(f"a: {{{{ {name} }}}}", NOWHERE, {}, reserved)
    with pytest.raises(RenderingError, match="needs a value that is missing: a mapping has no attribute 'globus'"):
        render("a: {{ x.globus }}", NOWHERE, {"x": {}}, reserved)
    assert yaml.safe_load(render("a: {{ mapped_identity.local.uname }}", NOWHERE, {}, reserved)) == {"a": "ada"}


def test_reserved_variables() -> None:
    local = "a: {{ X.mapped_identity.local.uname }}-{{ X.mapped_identity.local.uid }}-{{ X.mapped_identity.globus.id }}"
    for prefix in ("_GC.", ""):
        assert made(local.replace("X.", prefix))["a"] == "ada-1234-some-uuid"
        assert made(f"a: {{{{ {prefix}parent_config.heartbeat_period }}}}")["a"] == 30
        assert made(f"a: {{{{ {prefix}user_runtime.python.version }}}}")["a"] == "3.11.2"
        assert made(f'a: "{{{{ {prefix}user_runtime.python.version_tuple | join(".") }}}}"')["a"] == "3.11.2"
    assert made("a: {{ _GC.env.HOME }}/{{ _GC.mapped_identity.local.groups[1] }}")["a"] == "/home/ada/200"
    assert made("a: {{ _GC.user_runtime.globus_compute_sdk_version[1:-1] }}")["a"] == "4.19.0"
    assert made("a: {{ _GC.mapped_identity.local.gecos }}".replace("a:", "a: >-\n "))["a"] == "Ada evil: x"


def test_paths_of_the_parents_configuration_are_paths() -> None:
    reserved = replace(
        RESERVED, parent_config={"audit_log_path": "/var/log/audit.log", "user_config_schema_path": None}
    )
    text = "a: {{ _GC.parent_config.audit_log_path.parent }}\nb: {{ _GC.parent_config.audit_log_path }}\n"
    text += "c: {{ _GC.parent_config.user_config_schema_path is none }}\n"
    found = yaml.safe_load(render(text, NOWHERE, {}, reserved))
    assert found == {"a": "/var/log", "b": "/var/log/audit.log", "c": True}
    with pytest.raises(RenderingError, match="read_text"):
        render("{{ _GC.parent_config.audit_log_path.read_text() }}", NOWHERE, {}, reserved)


@pytest.mark.parametrize("name", [*options.RESERVED, "a b", "1a", "", "a\n"])
def test_a_bad_name_of_an_option(name: str) -> None:
    with pytest.raises(RenderingError, match="option"):
        made("a: 1", {name: 1})


@pytest.mark.parametrize("name", ["my-option", "my.option", "_x"])
def test_a_name_that_no_template_can_use_is_carried_all_the_same(name: str) -> None:
    assert made("a: 1", {name: "x"}) == {"a": 1}


def test_the_name_of_an_option_may_have_letters_of_any_language() -> None:
    assert made("a: {{ größe }}", {"größe": "x"}) == {"a": "x"}


@pytest.mark.parametrize("key", ["a\nb", "\x00", "a\u2028", "k" * 513, "\ud800"])
def test_a_key_inside_an_option_has_to_be_printable(key: str) -> None:
    with pytest.raises(RenderingError, match=r"unusable key .* 512 printable characters"):
        made("a: 1", {"x": [{"ok-1.2": {key: 1}}]})


BINDS = {"/scratch": "/data", "a b": 1, "--x": None, "plain": "p", "ä: [": {"n's": "v"}}


def test_keys_inside_an_option_are_carried_as_they_are() -> None:
    assert made("a: {{ x }}", {"x": BINDS}) == {"a": BINDS}
    assert made("a: {{ [x, x.plain] }}", {"x": BINDS}) == {"a": [BINDS, "p"]}


@pytest.mark.parametrize(
    "template",
    [
        "a:{% for key, value in x.items() %}\n  {{ key }}: {{ value }}{% endfor %}\n",
        "a: { {% for key in x %}{{ key }}: {{ x[key] }}, {% endfor %} }\n",
        "a: { {% for key, value in x | dictsort %}{{ key }}: {{ value }}, {% endfor %} }\n",
    ],
)
def test_keys_are_quoted_where_they_are_printed(template: str) -> None:
    assert made(template, {"x": BINDS}) == {"a": BINDS}


def test_lists_of_keys_and_of_values_are_printed_with_one_pair_of_quotes() -> None:
    found = made("keys: {{ x | list }}\nvalues: {{ x.values() | list }}\n", {"x": BINDS})
    assert found == {"keys": list(BINDS), "values": list(BINDS.values())}


def test_a_key_is_looked_up_as_the_user_wrote_it() -> None:
    text = (
        "a: {{ x['/scratch'] }}\nb: {{ x.get('a b') }}\nc: {{ 'ä: [' in x }}\nd: {{ x.plain }}\n"
        "e: {{ x.get('none', 7) }}\nf: {{ x['none'] | default(8) }}\ng: {{ 'none' in x }}\n"
    )
    found = made(text, {"x": BINDS})
    assert found == {"a": "/data", "b": 1, "c": True, "d": "p", "e": 7, "f": 8, "g": False}


def test_a_key_is_one_word_for_the_shell() -> None:
    text = "a: |\n  run{% for key, value in x.items() %} --bind {{ key }}:{{ value }}{% endfor %}\n"
    binds = {"/my data": "/a", "$x'": "b"}
    assert shlex.split(made(text, {"x": binds})["a"]) == ["run", "--bind", "/my data:/a", "--bind", "$x':b"]


def test_nesting_has_an_end() -> None:
    deep: Any = 1
    for _ in range(50):
        deep = [deep]
    with pytest.raises(RenderingError, match="nested"):
        made("a: 1", {"x": deep})


def test_the_schema() -> None:
    schema = {
        "type": "object",
        "properties": {"nodes": {"type": "integer", "maximum": 4}},
        "additionalProperties": False,
    }
    options.check({"nodes": 4}, schema)
    with pytest.raises(RenderingError, match=r"option nodes: 5 is greater than the maximum of 4"):
        options.check({"nodes": 5}, schema)
    with pytest.raises(RenderingError, match="'node' was unexpected"):
        options.check({"node": 5}, schema)


def test_the_shell_filter() -> None:
    value = "x'; rm -rf / #"
    found = made("a: {{ x | shell_escape }}\nb: {{ 3 | shell_escape }}\nc: {{ 'it''s' | shell_escape }}", {"x": value})
    assert found["a"] == "'x'\"'\"'; rm -rf / #'"
    assert found["b"] == 3
    assert shell_escape("plain words") == "\"'plain words'\""


def test_other_files_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "base.j2").write_text("a: {{ x }}\n{% block rest %}{% endblock %}")
    (tmp_path / "part.j2").write_text("b: {{ x }}")
    text = '{% extends "base.j2" %}{% block rest %}{% include "part.j2" %}{% endblock %}'
    assert made(text, {"x": "1"}, tmp_path) == {"a": "1", "b": "1"}
    with pytest.raises(RenderingError, match="administrator"):
        made('{% include "../secret" %}', {}, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{% if %}", "Tell the endpoint's administrator"),
        ("{{ ''.__class__.__mro__ }}", "fails with these options: SecurityError"),
        ("{{ x.y.z }}", "needs the option 'x'"),
        ("{{ _GC.nothing }}", "needs a value that is missing"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{% for i in range(100000) %}0123456789{% endfor %}", "got longer than"),
    ],
)
def test_what_can_go_wrong(text: str, words: str) -> None:
    with pytest.raises(RenderingError) as failed:
        made(text)
    assert words in failed.value.text
    assert "/" not in failed.value.text.replace("1 / 0", "")


@pytest.mark.parametrize(("character", "size"), [("x", 1), ("é", 6), ("😀", 12)])
def test_a_configuration_may_be_as_long_as_its_json(character: str, size: int) -> None:
    """That of RFC 8259 in ASCII, with its escapes, is how the start document has it."""
    longest = "a: " + character * ((65280 - len("a: ")) // size)
    assert render(longest, NOWHERE, {}, RESERVED) == longest
    with pytest.raises(RenderingError, match="got longer than 65280 bytes; shorten the options"):
        render(longest + character, NOWHERE, {}, RESERVED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: {{ m.y }}", "a mapping has no attribute 'y'"),
        ("a: {{ n[3] }}", "a list has no element 3"),
        ("a: {{ t.y }}", "a text has no attribute 'y'"),
        ("a: {{ m + 1 }}", "a mapping and 'int'"),
        ("a: {{ absent | tojson }}", "needs an option that wasn't passed"),
    ],
)
def test_reasons_are_in_words_of_templates(text: str, words: str) -> None:
    with pytest.raises(RenderingError) as failed:
        made(text, {"m": {}, "n": [1], "t": "x"})
    assert words in failed.value.text
    assert "Undefined" not in failed.value.text
    assert "Quoted" not in failed.value.text


@pytest.mark.parametrize("reference", ["#", "#/$defs/absent", "absent.json"])
def test_a_schema_that_leads_nowhere_is_the_administrators_fault(reference: str) -> None:
    with pytest.raises(RenderingError, match="schema for options can't be used") as failed:
        options.check({"x": 1}, {"properties": {"x": {"$ref": reference}}, "allOf": [{"$ref": reference}]})
    assert "$ref" in failed.value.detail


def test_a_part_in_another_encoding_is_the_administrators_fault(tmp_path: Path) -> None:
    (tmp_path / "part.j2").write_bytes("# M\xfcnchen".encode("latin-1"))
    with pytest.raises(RenderingError, match="Tell the endpoint's administrator"):
        made("a: 1\n{% include 'part.j2' %}", {}, tmp_path)


@pytest.mark.parametrize(
    ("text", "detail"),
    [
        ("a: 1\nb: {{ x }\nc: 2", "/ep/t.j2, line 2: unexpected '}': b: {{ x }"),
        ("a: 1\n\n  {{ x | no_filter }}", "/ep/t.j2, line 3: No filter named 'no_filter'.: {{ x | no_filter }}"),
        ("{% if x %}\n", "/ep/t.j2, line 1: Unexpected end of template"),
        ("a\n{{ 1 / 0 }}\n", "/ep/t.j2, line 2: ZeroDivisionError: division by zero: {{ 1 / 0 }}"),
        ("a\nb: {{ nope }}\n", "/ep/t.j2, line 2: UndefinedError: 'nope' is undefined: b: {{ nope }}"),
        ("a\n{% include 'none' %}\n", "/ep/t.j2, line 2: TemplateNotFound: 'none' not found in search path"),
        ("a\n\n{% include 'part.j2' %}\n", "/part.j2, line 2: ZeroDivisionError: division by zero: {{ 1 / 0 }}"),
        ("a\n\n{% include 'bad.j2' %}\n", "/bad.j2, line 3: Expected an expression, got 'end of statement block': {%"),
    ],
)
def test_the_administrator_is_told_the_file_the_line_and_its_text(tmp_path: Path, text: str, detail: str) -> None:
    (tmp_path / "part.j2").write_text("a: 1\n{{ 1 / 0 }}\n")
    (tmp_path / "bad.j2").write_text("a: 1\n\n{% if %}\n")
    with pytest.raises(RenderingError) as failed:
        render(text, tmp_path, {"x": "1"}, RESERVED, "/ep/t.j2")
    assert detail in failed.value.detail
    assert "t.j2" not in failed.value.text


def test_rendering_ends_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(template, "MAX_SECONDS", 0.0)
    with pytest.raises(RenderingError, match="over 0 seconds"):
        made("{% for i in range(9) %}{{ i }}{% endfor %}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "isn't valid YAML in line 1"),
        ("engine: {type: X}\na: 1\nengine: {type: Y}", "in line 3: the key 'engine' is on line 1 already"),
        ("engine: {type: X}\n  b: c: d", "isn't valid YAML in line 2"),
        ("just words", "isn't a YAML mapping"),
        ("", "isn't a YAML mapping"),
        ("a: 1", "has no engine"),
        ("engine: X", "has no engine"),
        ("engine: {provider: {}}", "engine without a type"),
        ("engine: {type: 3}", "engine without a type"),
        ("engine: {type: X}\nhigh_assurance: false", "high_assurance"),
        ("a: \x00", "isn't valid YAML"),
        ("engine: {type: X}\na: !!python/object/apply:os.system [id]", "isn't valid YAML"),
        ("a: 2001-99-99", "isn't valid YAML"),
    ],
)
def test_a_configuration_that_no_process_is_started_for(text: str, words: str) -> None:
    with pytest.raises(RenderingError) as failed:
        validate.check(text)
    assert words in failed.value.text


# Texts that end scalars, start keys, comments, tags or documents, in YAML, Jinja or some encoding.
TRICKS = st.sampled_from(
    [
        *(
            "'",
            '"',
            "\\",
            "\n",
            "\r",
            "\t",
            "\0",
            ": ",
            "#",
            " #",
            "- ",
            "---",
            "...",
            "{",
            "}",
            "[",
            "]",
            ",",
            "&a",
            "*a",
        ),
        *("!!x", "|", ">", "%", "@", "`", "{{", "}}", "{%", "%}", "\x1b", "\x7f", "\x85", "\xa0", "\u2028", "\u2029"),
        *("\ufeff", "\ufffe", "\uffff", "\U0001f600", "null", "~", "<<", "evil: 1", "\\n", "\\u000a", "</x>"),
    ]
)
TEXTS = st.lists(TRICKS | st.text(st.characters(exclude_categories=["Cs"]), max_size=4), max_size=8).map("".join)
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.+-]{0,8}", fullmatch=True)
KEYS = TEXTS.filter(str.isprintable) | NAMES
VALUES = st.recursive(
    TEXTS | NUMBERS | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)
PLACES = """\
before: 1
block: {{ x }}
flow: {a: {{ x }}, b: [{{ x }}, 2]}
nested:
  - {{ x }}
  - last: {{ x }}  # {{ x }}
lines: |
  run {{ x }}
  end
after: 2
"""
"""Every place where a scalar can stand."""


def shape(value: Any) -> Any:
    """The keys, and where they are; without the option's own value."""
    return {
        "top": list(value),
        "flow": list(value["flow"]),
        "b": len(value["flow"]["b"]),
        "nested": [type(item) is dict and list(item) for item in value["nested"][1:]],
        "around": (value["before"], value["after"], value["lines"].count("\n")),
    }


@given(TEXTS)
@example("a\n evil: 1")
@example("'\"\x85evil: 1")
def test_a_text_arrives_as_it_was_and_adds_nothing(text: str) -> None:
    found = made(PLACES, {"x": text})
    assert shape(found) == shape(made(PLACES, {"x": "plain"}))
    assert found["block"] == found["flow"]["a"] == found["flow"]["b"][0] == found["nested"][1]["last"] == text


@given(VALUES)
def test_no_value_adds_or_changes_a_key(value: Any) -> None:
    found = made(PLACES, {"x": value})
    assert shape(found) == shape(made(PLACES, {"x": "plain"}))


@given(st.lists(TEXTS, max_size=4), st.dictionaries(KEYS, TEXTS, max_size=4))
def test_lists_and_mappings_arrive_as_they_were(texts: list[str], mapping: dict[str, str]) -> None:
    assert made("a: {{ x }}\nb: {{ y }}", {"x": texts, "y": mapping}) == {"a": texts, "b": mapping}


FLOW = {"flow": {"a": "", "b": ""}, "c": ""}
LINE = {"a": "", "c": ""}
QUOTED: dict[str, Any] = {
    'flow: {a: "{{ x }}", b: 1}\nc: 2': FLOW,
    "flow: {a: '{{ x }}', b: 1}\nc: 2": FLOW,
    "flow: {a: pre{{ x }}, b: 1}  # {{ x }}\nc: 2": FLOW,
    'flow: [{a: pre{{ x }}post}, "{{ x }}", b]\nc: 2': {"flow": [{"a": ""}, "", ""], "c": ""},
    'a: "{{ x }}"\nc: 2': LINE,
    "a: '{{ x }}'\nc: 2": LINE,
    "a: {{ x }} more\nc: 2": LINE,
    "flow: {a: \"{{ x|upper }}\", b: '{{ x|title }}'}\nc: {{ x }}": FLOW,
    "a: |\n  {{ x }}\n{{ x }}: 1\nc: 2": {"a": "", "": "", "c": ""},
    "- '{{ x }}'\n- {a: {{ x }}, c: [{{ x }}]}": ["", {"a": "", "c": [""]}],
    "flow: {a: {{ [x | title] }}, b: 1}\nc: 2": {"flow": {"a": [""], "b": ""}, "c": ""},
}
"""Places where a template should not put an option, and some where it may; and the keys that come out."""


def keys(value: Any) -> Any:
    """The keys and where they are, whatever the values; one that the option is has no name."""
    if isinstance(value, dict):
        return {key if key in ("a", "b", "c", "d", "flow") else "": keys(item) for key, item in value.items()}
    return [keys(item) for item in value] if isinstance(value, list) else ""


@given(st.sampled_from(list(QUOTED)), TEXTS)
@example(next(iter(QUOTED)), ", b: 100, z: ")
@example(list(QUOTED)[7], ", b: 100, z: ")
@example(list(QUOTED)[7], ",ß")
@example(list(QUOTED)[7], "ŉ, b: 100, z: ")
@example(list(QUOTED)[1], "' , b: 100, z: '")
@example(list(QUOTED)[3], "}, {b: 1, z: ")
@example(list(QUOTED)[2], "#")
@example(list(QUOTED)[6], "x: {b: 1}")
@example(list(QUOTED)[10], "', evil], d: ['")
def test_in_quotes_of_the_template_too_a_text_adds_and_takes_no_key(text: str, option: str) -> None:
    assume(option not in ("a", "b", "c", "d", "flow"))  # as a key it would be one of the template's own
    found = render(text, NOWHERE, {"x": option}, RESERVED)
    try:
        value = yaml.safe_load(found)
        containment.check(found, {"x": option})
    except (RenderingError, yaml.YAMLError):
        return
    assert keys(value) == QUOTED[text]


LOOPS: dict[str, Any] = {
    "flow: { {% for k in x %}{{ k }}: 1, {% endfor %}b: 1}\nc: 2": {"flow": {"": "", "b": ""}, "c": ""},
    "flow:{% for k in x %}\n  {{ k }}: 1{% endfor %}\n  b: 1\nc: 2": {"flow": {"": "", "b": ""}, "c": ""},
    "flow: [{% for k in x %}{{ k }}, {% endfor %}b]\nc: 2": {"flow": ["", ""], "c": ""},
    "flow: [\"{% for k in x %}{{ k }}{% endfor %}\", '{{ x | first }}', b]\nc: 2": {"flow": ["", "", ""], "c": ""},
    "flow: {a: pre{{ x | first }}, b: {{ x | list }}}\nc: 2": {"flow": {"a": "", "b": [""]}, "c": ""},
    "flow: {a: {{ x | list | string | upper }}, b: 1}  # {{ x }}\nc: 2": {"flow": {"a": [""], "b": ""}, "c": ""},
    "flow: {a: {{ [(x | first) ~ ''] }}, b: 1}\nc: 2": {"flow": {"a": [""], "b": ""}, "c": ""},
    "flow: {a: {{ x.keys() | map('upper') | list }}, b: 1}\nc: 2": {"flow": {"a": [""], "b": ""}, "c": ""},
}
"""Templates that print the key of an option, or its value, in ways good and bad; and the keys that come out."""


@given(st.sampled_from(list(LOOPS)), KEYS)
@example(next(iter(LOOPS)), "z: 1, a")
@example(list(LOOPS)[3], ", b: 100, z: ")
@example(list(LOOPS)[3], "', evil, '")
@example(list(LOOPS)[4], ", a: 100, z: ")
@example(list(LOOPS)[6], "', evil], d: ['")
@example(list(LOOPS)[7], "', evil], d: ['")
def test_no_key_of_an_option_adds_or_takes_one(text: str, key: str) -> None:
    option = {key: 1}
    assume(key.lower() not in ("a", "b", "c", "d", "flow"))  # it would be one of the template's own
    found = render(text, NOWHERE, {"x": option}, RESERVED)
    try:
        value = yaml.safe_load(found)
        containment.check(found, {"x": option})
    except (RenderingError, yaml.YAMLError, ValueError):
        return
    assert keys(value) == LOOPS[text]


@pytest.mark.parametrize("option", ["it's", 'say "x"', "a, b: c", "#1", "C:\\x", "[1]"])
def test_an_option_that_is_put_as_it_should_be_may_hold_anything(option: str) -> None:
    found = render(PLACES, NOWHERE, {"x": option}, RESERVED)
    containment.check(found, {"x": option, "unused": {"list": [option]}})


def test_an_option_that_would_be_more_than_a_value_is_named() -> None:
    found = render(next(iter(QUOTED)), NOWHERE, {"x": ", b: 100, z: "}, RESERVED)
    with pytest.raises(RenderingError, match='The option ", b: 100, z: " would be more than a value'):
        containment.check(found, {"x": ", b: 100, z: "})


def test_half_a_character_is_refused() -> None:
    with pytest.raises(RenderingError, match="Unicode"):
        made("a: {{ x }}", {"x": "a\ud800"})
