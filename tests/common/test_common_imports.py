"""What a part that uses a module of the common package doesn't load by that."""

import subprocess
import sys
from pathlib import Path

import twinlock_common

ROOT = Path(twinlock_common.__file__).parent
RENDERING = ("jinja2", "jsonschema")
"""What rendering needs, and no other part has to have."""


def loaded(modules: list[str]) -> set[str]:
    """The modules of a Python that imports these."""
    code = f"import {', '.join(modules)}, sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    return set(done.stdout.split())


def modules(*, of_rendering: bool) -> list[str]:
    """Those of the common package."""
    paths = [path.relative_to(ROOT.parent).with_suffix("") for path in ROOT.rglob("*.py")]
    names = [".".join(part for part in path.parts if part != "__init__") for path in sorted(paths)]
    return [name for name in names if name.startswith("twinlock_common.rendering.") is of_rendering]


def test_only_what_renders_loads_jinja_and_jsonschema() -> None:
    assert set(RENDERING) <= loaded(modules(of_rendering=True))
    assert not set(RENDERING) & loaded(modules(of_rendering=False))
