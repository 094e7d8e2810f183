"""The code that root loads, as its readers meet it: tokens, lengths, complexity, and what has to be read twice."""

import ast
import io
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PARTS = ("shared/twinlock_wire", "spawner")
_NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_DOCUMENTED_NAMES = {"_exit", "_asdict"}  # of os and of NamedTuple: they stand in the library's manual
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case, ast.Assert)


class Function(NamedTuple):
    """A function, with those that are defined in it."""

    name: str

    lines: int
    """Lines with code on them."""

    complexity: int
    """1, and 1 for each branch, condition of a comprehension, and operand of ``and`` and ``or`` after the first."""


def roots_code() -> dict[Path, "Code"]:
    """Return all modules that root loads, by their paths."""
    files = [path for part in PARTS for path in sorted((ROOT / part).rglob("*.py"))]
    return {path: Code(path.read_text()) for path in files}


class Code:
    """The code of a module: its tokens without comments, docstrings, indentation and ends of lines."""

    def __init__(self, source: str) -> None:
        self._tree = ast.parse(source)
        left_out = _docstring_lines(self._tree)
        self.tokens = [
            token for token in _tokens(source) if token.type not in _NO_CODE and token.start[0] not in left_out
        ]

    @property
    def lines(self) -> int:
        """Lines with code on them."""
        return self._lines_between(1, sys.maxsize)

    def functions(self) -> Iterator[Function]:
        """Yield all functions and methods."""
        for node in ast.walk(self._tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = self._lines_between(node.lineno, node.end_lineno or node.lineno)
                yield Function(node.name, lines, _complexity(node))

    def imports(self, package: str) -> bool:
        """Return whether it imports `package`, anywhere."""
        return any(name.partition(".")[0] == package for name in self._imported())

    def private_names(self) -> Iterator[str]:
        """Yield names with a leading underscore that belong to another module, or to the inside of another object."""
        yield from (name for name in self._imported() if any(_is_private(part) for part in name.split(".")))
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Attribute) and _is_private(node.attr) and not _is_own(node.value):
                yield ast.unparse(node)

    def read_twice(self) -> Iterator[str]:
        """Yield statements that do more than one thing, or something else than they look like.

        Those are assignments of several values at once, assignments inside an expression, and expressions that stand
        alone for what they do on the way.
        """
        for node in ast.walk(self._tree):
            match node:
                case ast.Assign(targets=[ast.Tuple()], value=ast.Tuple()) | ast.NamedExpr():
                    yield ast.unparse(node)
                case ast.Expr(value=ast.IfExp() | ast.BoolOp() | ast.ListComp() | ast.SetComp() | ast.DictComp()):
                    yield ast.unparse(node)
                case ast.Expr(value=ast.Call(func=ast.Name(id="list" | "set" | "tuple" | "any" | "all" | "map"))):
                    yield ast.unparse(node)

    def _imported(self) -> Iterator[str]:
        for node in ast.walk(self._tree):
            match node:
                case ast.Import():
                    yield from (alias.name for alias in node.names)
                case ast.ImportFrom():
                    yield from (f"{node.module}.{alias.name}" for alias in node.names)

    def _lines_between(self, first: int, last: int) -> int:
        spans = (range(token.start[0], token.end[0] + 1) for token in self.tokens)
        return len({line for span in spans for line in span if first <= line <= last})


def _tokens(source: str) -> Iterator[tokenize.TokenInfo]:
    """Yield Python's tokens, an f-string as one with all in it, which `tokenize` splits since Python 3.12 (PEP 701)."""
    open_strings: list[tokenize.TokenInfo] = []
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        whole = token
        match tokenize.tok_name[token.type]:
            case "FSTRING_START":
                open_strings.append(token)
            case "FSTRING_END":
                whole = open_strings.pop()._replace(end=token.end)
        if not open_strings:
            yield whole


def _docstring_lines(tree: ast.AST) -> set[int]:
    """Return the lines of docstrings, and of texts that explain the assignment above them."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED):
            for text in node.body:
                match text:
                    case ast.Expr(value=ast.Constant(value=str())):
                        found.update(range(text.lineno, (text.end_lineno or text.lineno) + 1))
    return found


def _complexity(function: ast.AST) -> int:
    complexity = 1
    for node in ast.walk(function):
        if isinstance(node, _BRANCHES):
            complexity += 1
        if isinstance(node, ast.BoolOp):
            complexity += len(node.values) - 1
        if isinstance(node, ast.comprehension):
            complexity += len(node.ifs)
    return complexity


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__") and name not in _DOCUMENTED_NAMES


def _is_own(owner: ast.expr) -> bool:
    return isinstance(owner, ast.Name) and owner.id in ("self", "cls")
