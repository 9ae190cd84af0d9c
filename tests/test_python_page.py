"""The pages for Python programmers run as they stand."""

from __future__ import annotations

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
