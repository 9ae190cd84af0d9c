"""Every stage takes paths as text, too: mypy then makes each of them a `Path` before it is used."""

from __future__ import annotations

import ast
from pathlib import Path

import fvv

STAGES = Path(fvv.__file__).parent / "stages"


def test_no_stage_asks_for_a_path_alone() -> None:
    asked = []
    for file in STAGES.glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if not isinstance(node, ast.FunctionDef) or not (ast.unparse(node.returns or node).endswith("Result")):
                continue
            for argument in (*node.args.args, *node.args.kwonlyargs):
                kind = ast.unparse(argument.annotation) if argument.annotation else ""
                if "Path" in kind and "str | Path" not in kind and not node.name.startswith("_"):
                    asked.append(f"{file.name}: {node.name}({argument.arg}: {kind})")
    assert asked == []
