"""What users need on their own computers to sign and to verify results: Python 3.10 and one package."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
import twinlock_signed

ROOT = Path(twinlock_signed.__file__).parent
FOR_HOSTS = {"keys", "settings", "trusted", "verifier"}
"""Modules that read the administrator's file, which is TOML."""
OLDEST = (3, 10)


def modules() -> list[str]:
    """All others of the package."""
    paths = [path.relative_to(ROOT.parent).with_suffix("") for path in ROOT.rglob("*.py")]
    names = [".".join(part for part in path.parts if part != "__init__") for path in sorted(paths)]
    return [name for name in names if name.rpartition(".")[2] not in FOR_HOSTS]


def test_they_load_the_standard_library_and_pynacl() -> None:
    code = f"import sys\nbefore = set(sys.modules)\nimport {', '.join(modules())}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    foreign = {name for name in loaded - sys.stdlib_module_names if not name.startswith("_")}
    assert foreign == {"twinlock_signed", "nacl"}
    assert "tomllib" not in loaded, "Python 3.10 hasn't got it"


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_syntax_is_python_3_10s(path: Path) -> None:
    ast.parse(path.read_text(), feature_version=OLDEST)
