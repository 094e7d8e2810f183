"""Files of a site as editors, other systems and mistakes leave them: each is read, or refused in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from broker_rig import NO_POLICY, UEP, identity, make_folder
from twinlock_broker.config.folder import open_folder, read_folder
from twinlock_broker.errors import CommandError, Fatal
from twinlock_broker.identity.mapping import Mapper
from twinlock_common.site_files import load_yaml

TWINLOCK = Path(sys.executable).with_name("twinlock")
FILES = ("config.yaml", "user_config_template.yaml.j2", "user_config_schema.json", "user_environment.yaml")
MAPPING = [
    {
        "DATA_TYPE": "expression_identity_mapping#1.0.0",
        "mappings": [{"source": "{username}", "match": "(.*)@site\\.example", "output": "{0}"}],
    }
]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder that can be served."""
    return make_folder(tmp_path / "ep").path


def refusal(place: Path) -> str:
    """Why the folder isn't served; every other outcome fails."""
    with pytest.raises(Fatal) as ended:
        open_folder(place)
    return str(ended.value)


@pytest.mark.cases(4)
@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "make",
    [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()],
    ids=["pipe", "device", "folder"],
)
def test_what_is_no_file_is_refused_and_holds_nobody_up(place: Path, name: str, make: Callable[[Path], None]) -> None:
    (place / name).unlink(missing_ok=True)
    make(place / name)
    ended = subprocess.run(
        [TWINLOCK, "check", *NO_POLICY, "--offline", place], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == os.EX_CONFIG
    [line] = [line for line in ended.stdout.splitlines() if line.startswith("FAIL") and name in line]
    assert "regular file" in line or "it is a folder" in line


@pytest.mark.parametrize("name", FILES)
def test_a_link_that_leads_nowhere_is_no_missing_file(place: Path, name: str) -> None:
    (place / name).unlink(missing_ok=True)
    (place / name).symlink_to("moved-away")
    assert str(place / name) in refusal(place)


def test_a_folder_that_fails_has_no_missing_files(place: Path) -> None:
    """Options aren't accepted without their schema because a disk doesn't answer."""
    folder = open_folder(place)
    place.rename(place.with_name("moved"))
    place.symlink_to(place)
    for read in (folder.read_schema, folder.read_environment):
        with pytest.raises(CommandError):
            read()


def test_an_empty_device_is_an_empty_file(place: Path) -> None:
    (place / "user_environment.yaml").symlink_to(os.devnull)
    assert open_folder(place).read_environment() == {}


def test_a_file_without_end_is_refused(place: Path) -> None:
    with (place / "user_environment.yaml").open("wb") as file:
        file.truncate(1 << 40)
    assert "more than 16 MiB" in refusal(place)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "display_name: a\r\n"),
        ("user_config_schema.json", '{"type": "object"}\r\n'),
        ("user_environment.yaml", "A: b\r\n"),
    ],
)
def test_what_editors_of_windows_write_is_read(place: Path, name: str, text: str) -> None:
    (place / name).write_bytes(b"\xef\xbb\xbf" + text.encode())
    open_folder(place)


def test_a_mapping_with_the_mark_of_its_encoding_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(MAPPING).encode())
    [match] = Mapper(path, UEP).map([identity()])
    assert match.user == "alice"


@pytest.mark.parametrize("name", FILES)
def test_another_encoding_is_named_with_its_line(place: Path, name: str) -> None:
    (place / name).write_bytes("# one\n# M\xfcnchen\n".encode("latin-1"))
    assert "line 2 isn't UTF-8" in refusal(place)


@pytest.mark.cases(4)
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("config.yaml", "public: true\npam:\n\tenable: no\n", "line 3: "),
        ("config.yaml", "a: " + "[" * 3000, "nested too deeply"),
        ("config.yaml", "display_name: 2026-13-45\n", "month must be in 1..12"),
        ("config.yaml", "display_name: a\nb: \x00\n", "line 2: the character #x0000 isn't allowed"),
        ("config.yaml", "---\na: 1\n---\nb: 2\n", "line 3: expected a single document"),
        ("user_config_schema.json", "[" * 100_000, "nested too deeply"),
        ("user_config_schema.json", '{"$schema": 7}', '"$schema" has to be'),
        ("user_config_schema.json", '{"properties": {"a": {"pattern": "["}}}', "$.properties.a.pattern"),
        ("user_environment.yaml", "a: " + "[" * 3000, "nested too deeply"),
        ("user_environment.yaml", 'A: "b\\0c"\n', "null character"),
        ("user_environment.yaml", "NO: c\n", "put the name in quotes"),
        ("config.yaml", "public: true\n\npublic: false\n", "line 3: the key 'public' is on line 1 already; remove"),
        ("user_environment.yaml", "A: b\n'A': c\n", "line 2: the key 'A' is on line 1 already"),
        ("user_config_schema.json", '{"type": "object", "type": "array"}', "the key 'type' occurs twice"),
    ],
)
def test_what_is_wrong_is_told_in_one_line(place: Path, name: str, text: str, words: str) -> None:
    (place / name).write_text(text)
    said = refusal(place)
    assert words in said
    assert str(place / name) in said
    assert "\n" not in said


def test_a_mapping_with_a_key_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mapping.json"
    path.write_text(json.dumps(MAPPING).replace('"output"', '"output": "root", "output"'))
    with pytest.raises(Fatal, match="the key 'output' occurs twice in the same object; remove one of the two"):
        Mapper(path, UEP)


def test_a_key_that_comes_from_elsewhere_too_may_be_replaced() -> None:
    text = "a: {<<: &b {x: 1, y: 1}, x: 2}\nc: &c {<<: *b, y: 2}\nd: {<<: *c, x: 3, 1: a, '1': b}\n"
    assert load_yaml(text) == yaml.safe_load(text)


def test_a_number_without_end_is_no_number_of_seconds(place: Path) -> None:
    (place / "config.yaml").write_text(f"heartbeat_period: 1{'0' * 400}\n")
    assert "heartbeat_period has to be a number" in refusal(place)


def test_a_port_may_be_written_with_a_point(place: Path) -> None:
    (place / "config.yaml").write_text("amqp_port: 443.0\n")
    assert read_folder(place).settings["amqp_port"] == 443


def test_a_schema_may_be_true(place: Path) -> None:
    (place / "user_config_schema.json").write_text("true")
    assert open_folder(place).read_schema() == {}


def test_functions_of_the_shell_are_variables(place: Path) -> None:
    (place / "user_environment.yaml").write_text("BASH_FUNC_ml%%: '() { module \"$@\"; }'\n")
    assert open_folder(place).read_environment() == {"BASH_FUNC_ml%%": '() { module "$@"; }'}
