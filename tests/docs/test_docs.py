"""The site builds without a warning, and what the programs say stands in it."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs_texts import ROOT, exit_codes, refusals, stages
from parsers import all_parsers
from root_code import Code, roots_code
from twinlock_client import __main__ as client

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
SPANS = [span for span in re.findall(r"`([^`\n]+)`", PAGE) if "…" in span or len(span) > 12]


PARSERS = all_parsers() | {"twinlock-client": client.parser()}


def fits(span: str, text: str) -> bool:
    """Whether the parts of the entry `span`, which has … for values, come in this order in the text."""
    parts = [part for part in re.split(r"\s*…[.:]?\s*", span) if part.strip()]
    place = 0
    for part in parts:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return bool(parts)


def test_every_refusal_can_be_looked_up() -> None:
    plain = {text.replace("`", ""): where for text, where in refusals().items()}
    assert len(plain) > 100
    missing = [f"{where}: {text}" for text, where in plain.items() if not any(fits(span, text) for span in SPANS)]
    assert not missing, "\n".join(["each needs an entry in docs/troubleshooting.md:", *missing])


@pytest.mark.parametrize("name", ["README.md", "docs/audit.md", "docs/design.md", "packaging/debian/control"])
def test_the_size_of_roots_code_is_stated_as_it_is(name: str) -> None:
    """Within 3 %: it is what an auditor plans their time by."""
    text = " ".join((ROOT / name).read_text().split())
    [(lines, tokens)] = re.findall(r"about ([\d,]+) lines of code \(([\d,]+) tokens\)", text)
    code = roots_code().values()
    assert int(lines.replace(",", "")) == pytest.approx(sum(part.lines for part in code), rel=0.03)
    assert int(tokens.replace(",", "")) == pytest.approx(sum(len(part.tokens) for part in code), rel=0.03)


def test_an_f_string_counts_as_one_token_in_every_python() -> None:
    code = Code('name = f"""{one + two!r:>{width}}\n{f"{three}"}\n"""\n')
    assert (len(code.tokens), code.lines) == (3, 3)


def test_every_stage_and_exit_code_can_be_looked_up() -> None:
    assert len(stages()) > 20
    assert [name for name in sorted(stages() | exit_codes()) if f"`{name}`" not in PAGE] == []


def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    mkdocs = Path(sys.executable).with_name("mkdocs")
    argv: list[str | Path] = [mkdocs, "build", "--strict", "-f", ROOT / "mkdocs.yml", "--site-dir", tmp_path]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    reference = (tmp_path / "configuration.html").read_text()
    assert "max_children_per_user" in reference
    assert "<!-- table" not in reference


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "THREATS.md", "CHANGELOG.md"])
def test_links_of_the_papers_lead_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text()):
        if "://" not in link:
            assert (ROOT / link.partition("#")[0]).exists(), link


def commands() -> Iterator[tuple[str, list[str]]]:
    """Each command line of ours in a block of the pages: the page's name and the words."""
    for path in (*sorted((ROOT / "docs").glob("*.md")), ROOT / "README.md"):
        for block in re.findall(r"^ *```\w*\n(.*?)^ *```", path.read_text(), re.DOTALL | re.MULTILINE):
            for line in re.split(r"\n|\|", block.replace("\\\n", "").replace("|\n", "|")):
                words = line.strip().removeprefix("sudo -u twinlock ")
                if words.partition(" ")[0] in PARSERS:
                    yield path.name, shlex.split(words, comments=True)


def test_commands_in_the_pages_can_be_given() -> None:
    given = list(commands())
    assert len(given) > 15
    for page, words in given:
        try:
            PARSERS[words[0]].parse_args(words[1:])
        except SystemExit:
            pytest.fail(f"{page}: {' '.join(words)}")
