"""The same twice, with one worker and with two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from builders import write_cohort, write_onnx
from chaos.stages import contents
from fvv.cli import main


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("determinism") / "cohort"
    write_cohort(folder, np.random.default_rng(1), 4)
    return folder


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def test_prepare_gives_the_same_bytes_with_one_worker_and_with_two(cohort: Path, tmp_path: Path) -> None:
    for workers in (1, 2):
        run("prepare", "-i", cohort, "-o", tmp_path / str(workers), "-k", 2, "--workers", workers)
    one, two = (
        {
            str(path.relative_to(tmp_path / workers)): path.read_bytes()
            for path in (tmp_path / workers).rglob("*")
            if path.is_file()
        }
        for workers in ("1", "2")
    )
    assert one == two
    assert len(one) > 4 * 5


def test_predict_gives_the_same_twice(cohort: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        write_onnx(tmp_path / "models" / f"model{number}.onnx", whole_volume=False)
    for name in ("a", "b"):
        run("predict", cohort, "-m", tmp_path / "models", "-o", tmp_path / name, "--device", "cpu")
    found = contents(tmp_path / "a")
    assert found == contents(tmp_path / "b")
    assert len(found) >= 4 * 5
