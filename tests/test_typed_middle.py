"""Between files and pages all values are typed: `dict[str, Any]` stands only where JSON is read or written."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import fvv

SOURCE = Path(fvv.__file__).parent
FOLDERS = ("analysis", "recipes", "stages")
MAPPINGS = {"dict", "Mapping", "MutableMapping"}


def untyped(tree: ast.AST) -> Iterator[int]:
    """Lines with a mapping from text to anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple):
            name = node.value.id if isinstance(node.value, ast.Name) else ""
            if name in MAPPINGS and [ast.unparse(one) for one in node.slice.elts] == ["str", "Any"]:
                yield node.lineno


def test_no_mapping_is_untyped() -> None:
    found = [
        f"{file.relative_to(SOURCE).as_posix()}:{line}"
        for folder in FOLDERS
        for file in sorted((SOURCE / folder).rglob("*.py"))
        for line in untyped(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_every_spelling_is_found() -> None:
    code = "def f(a: dict[str, Any], b: Mapping[str, Any] | None) -> list[dict[str, Any]]: c: dict[str, int]"
    assert list(untyped(ast.parse(code))) == [1, 1, 1]
