"""The pages for Python programmers run as they stand."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from builders import write_patient
from fvv.config import PredictConfig
from fvv.io.shipped import shipped_or_refuse
from fvv.stages.predict import predict

DOCS = Path(__file__).resolve().parents[1] / "docs"


@pytest.mark.filterwarnings("ignore:rank. no interval", "ignore:concordance. no interval")
def test_the_page_runs(tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("statsmodels")
    for name in ("anna", "bert"):
        write_patient(tmp_path / "cohort" / name, rng, mask=False)
        (tmp_path / name).symlink_to(tmp_path / "cohort" / name, target_is_directory=True)
    predict(tmp_path / "cohort", shipped_or_refuse(), tmp_path / "results", PredictConfig())
    monkeypatch.chdir(tmp_path)
    page = (DOCS / "how-to" / "python.md").read_text(encoding="utf-8")
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL):
        exec(compile(block, "python.md", "exec"), namespace)  # noqa: S102
    assert (tmp_path / "anna.png").stat().st_size > 10_000


def test_the_example_of_a_training_calls_functions_as_they_are() -> None:
    """It takes minutes, so it is not run: its imports are there, and its calls fit their signatures."""
    pytest.importorskip("torch")
    page = (DOCS / "how-to" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```(\w*)\n(.*?)```", page, flags=re.DOTALL)
    (example,) = (block for language, block in blocks if not language and "train_fold" in block)
    tree = ast.parse(example)
    functions = {
        alias.name: getattr(importlib.import_module(str(node.module)), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    called = {node.func.id: node for node in calls if isinstance(node.func, ast.Name) and node.func.id in functions}
    assert set(called) == set(functions)
    for name, node in called.items():
        inspect.signature(functions[name]).bind(*node.args)
