"""What `make docs` adds to the pages that are written by hand: the reference's tables, and the papers beside README.md.

`<!-- table: NAME -->` becomes the table NAME of reference.py, `<!-- list: NAME -->` its list. What is between
`<!-- sources -->` and `<!-- end -->` is for readers of the file itself.
"""

import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
import reference

PAPERS = ("THREATS.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
_MARK = re.compile(r"<!-- (table|list): (\w+) -->")
_SOURCES = re.compile(r"<!-- sources -->.*?<!-- end -->", re.DOTALL)
_HEADS = {"name": "Name", "kind": "Value", "default": "Default", "meaning": "Meaning"}


def on_files(files: Files, config: Any) -> Files:
    """Add the papers, as if they were in docs/."""
    for name in PAPERS:
        text = (Path(config.docs_dir).parent / name).read_text()
        files.append(File.generated(config, name, content=text.replace("](docs/", "](")))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Insert the tables and lists, and point links to the papers to where they are on the site."""
    return _MARK.sub(_made, _SOURCES.sub("", markdown)).replace("](../", "](")


def _made(mark: re.Match[str]) -> str:
    if mark[1] == "list":
        return ", ".join(f"`{name}`" for name in reference.names(mark[2]))
    rows = reference.rows(mark[2])
    columns = [column for column in _HEADS if any(getattr(row, column) for row in rows)]
    head = [_HEADS[column] for column in columns]
    lines = [head, ["---"] * len(head), *([_cell(column, getattr(row, column)) for column in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(column: str, text: str) -> str:
    text = text.replace("|", "\\|")
    if column == "name":
        return f"`{text}`{{ .name }}"
    return f"`{text}`" if column == "default" and text and text != reference.REQUIRED else text
