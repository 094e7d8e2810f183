"""Every text with which a program of ours refuses something, out of the sources; "…" is where a value stands."""

import ast
from collections.abc import Iterator
from pathlib import Path

from twinlock_spawner.stages import STAGES

ROOT = Path(__file__).parent.parent.parent
ERRORS = {
    "Fatal": 1,
    "StartError": 1,
    "CommandError": 0,
    "RenderingError": 0,
    "UsageError": 0,
    "DocumentError": 0,
    "ConfigError": 0,
    "FolderError": 0,
    "EngineError": 0,
    "InUse": 0,
    "PolicyError": 0,
    "Refused": 0,
}
"""The errors by the place of their text among the arguments."""


def refusals() -> dict[str, str]:
    """The texts, each with the file and line where it stands."""
    found = {}
    for part in ("broker", "client", "endpoint", "service", "shared", "spawner"):
        for path in sorted((ROOT / part).rglob("*.py")):
            for line, text in _of(path):
                found[text] = f"{path.relative_to(ROOT)}:{line}"
    return found


def _of(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    texts = _assigned(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (place := _place(node.func)) is not None:
            for argument in node.args[place:][:1]:
                found = [_text(argument)] if not isinstance(argument, ast.Name) else texts.get(argument.id, [])
                yield from ((node.lineno, text) for text in found if len(text.strip("… ")) > 3)


def _place(made: ast.expr) -> int | None:
    """Where the text is among the arguments of what is made; None where it isn't an error of ours."""
    if isinstance(made, ast.Attribute) and made.attr == "__init__":  # of an error that has one text only
        return 0
    return ERRORS.get(made.id) if isinstance(made, ast.Name) else None


def _assigned(tree: ast.AST) -> dict[str, list[str]]:
    """What is assigned to names: some texts are put together before they are raised."""
    found: dict[str, list[str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and _text(node.value):
            found.setdefault(node.targets[0].id, []).append(_text(node.value))
    return found


def _text(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.Call) and node.args:
        return _text(node.args[0])
    return ""


def stages() -> set[str]:
    """The names of the stages of a start, as the spawner and the broker's own refusals say them."""
    return {name for name, *_ in STAGES} | set(_failed()) | set(_explained())


def _failed() -> Iterator[str]:
    """Those at which the spawner itself refuses, before or instead of a child."""
    for path in sorted((ROOT / "spawner").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="Failure"), args=[ast.Constant(value=str(stage)), *_]):
                    yield stage


def _explained() -> Iterator[str]:
    """Those that the broker explains."""
    tree = ast.parse((ROOT / "broker/twinlock_broker/endpoints/refusals.py").read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            yield from (str(key.value) for key in node.keys if isinstance(key, ast.Constant))


def exit_codes() -> set[str]:
    """The names in sysexits.h that our programs end with."""
    found = set()
    for part in ("broker", "endpoint", "service", "spawner"):
        for path in (ROOT / part).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and node.attr.startswith("EX_"):
                    found.add(node.attr)
    return found
