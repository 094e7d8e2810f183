"""External mappers: real programs, good and bad ones."""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broker_rig import ALICE, MANAGER, identity
from spawner_rig import gone
from twinlock_broker.errors import CommandError
from twinlock_broker.identity import external
from twinlock_broker.identity.mapping import Mapper

BOB = "7b1f2f6e-0000-4000-8000-000000000002"
GOOD = """\
import json, sys
assert sys.argv[-1] == "-a" and sys.argv[1] == "-c" and sys.argv[3:5] == ["-s", "{manager}"], sys.argv
asked = json.load(sys.stdin)
assert asked["DATA_TYPE"] == "identity_mapping_input#1.0.0"
rows = [{{"id": who["id"], "output": who["username"].split("@")[0]}} for who in asked["identities"]]
print(json.dumps({{"DATA_TYPE": "identity_mapping_output#1.0.0", "result": rows}}))
"""

Make = Callable[..., Mapper]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """A mapping with a program each for the texts (Python)."""

    def make(*texts: str) -> Mapper:
        documents: list[dict[str, Any]] = []
        for number, text in enumerate(texts):
            program = tmp_path / f"mapper{number}.py"
            program.write_text(f"#!/usr/bin/python3\n{text}")
            program.chmod(0o755)
            documents.append({"DATA_TYPE": "external_identity_mapping#1.0.0", "command": [str(program)]})
        (tmp_path / "map.json").write_text(json.dumps(documents))
        return Mapper(tmp_path / "map.json", MANAGER)

    return make


def test_a_program_maps(make: Make) -> None:
    match = make(GOOD.format(manager=MANAGER)).map([identity(BOB, "bob@site.example"), identity()])[0]
    assert (match.user, match.identity) == ("bob", BOB)
    assert match.candidates == [[{BOB: ["bob"]}, {ALICE: ["alice"]}]]


@pytest.mark.parametrize(
    "text",
    [
        "raise SystemExit(3)",
        "print('no JSON')",
        "print('{}')",
        "import os; os.abort()",
        f'print(\'{{"DATA_TYPE": "identity_mapping_output#1.0.0", "result": [{{"id": "{BOB}", "output": "root"}}]}}\')',
        "while True: print('x' * 65536)",
    ],
    ids=["fails", "no JSON", "no result", "crashes", "somebody else", "floods"],
)
def test_one_that_fails_leaves_it_to_the_next(make: Make, text: str) -> None:
    assert make(text, GOOD.format(manager=MANAGER)).map([identity()])[0].user == "alice"
    with pytest.raises(CommandError, match="its identity mapping failed"):
        make(text).map([identity()])


def test_one_that_hangs_is_ended_with_all_that_it_started(make: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(external, "SECONDS", 20.0)
    text = f"import os, time; os.fork(); open('{tmp_path}/' + str(os.getpid()) + '.pid', 'w').close(); time.sleep(1000)"
    assert make(text, GOOD.format(manager=MANAGER)).map([identity()])[0].user == "alice"
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


@pytest.mark.parametrize("text", [GOOD.format(manager=MANAGER), "raise SystemExit(3)", "while True: print('x' * 999)"])
def test_no_other_programs_processes_are_killed(make: Make, killed_groups: list[bool], text: str) -> None:
    with contextlib.suppress(CommandError):
        make(text).map([identity()])
    assert killed_groups == [True]


def test_it_gets_none_of_the_brokers_secrets(make: Make, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "hush")
    text = f"import os; open('{tmp_path}/environment', 'w').write(repr(dict(os.environ)))\n"
    make(text + GOOD.format(manager=MANAGER)).map([identity()])[0]
    said = (tmp_path / "environment").read_text()
    assert "hush" not in said
    assert os.environ["PATH"] in said
