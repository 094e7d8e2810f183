"""The pictures in docs/pictures are of today's programs, and the manuals show them."""

import json
import re

from docs_texts import ROOT
from drawn_dashboard import FILE, rows
from pictures import FOLDER, ROWS, screen
from twinlock_broker.top.columns import BY_TITLE
from twinlock_broker.top.keys import foot


def test_the_table_is_todays() -> None:
    words = screen((FOLDER / "top.svg").read_text())
    heading = re.search(r"USER\^[A-Z ]+", words)
    assert heading is not None
    assert set(heading[0].replace("^", "").split()) <= BY_TITLE.keys(), "take it again: make pictures"
    assert foot() in words, "take it again: make pictures"


def test_the_rows_of_the_dashboard_are_todays() -> None:
    panels = dict(rows(json.loads(FILE.read_text())["panels"]))
    for title, name in ROWS.items():
        words = re.findall(r"<text[^>]*>([^<]+)</text>", (FOLDER / name).read_text())
        assert {panel["title"] for panel in panels[title]} <= set(words), "take it again: make pictures"


def test_each_is_shown_and_loads_nothing() -> None:
    manuals = "".join((ROOT / "docs" / f"{page}.md").read_text() for page in ("operate", "console", "monitoring"))
    for picture in FOLDER.iterdir():
        assert f"(pictures/{picture.name})" in manuals
        if picture.suffix == ".svg":
            text = picture.read_text()
            assert not re.search(r"@import|url\((?!#)", text)
            assert set(re.findall(r'href="(data:image/png|#|)', text)) <= {"data:image/png", "#"}
