"""Results of a cohort as typed rows, and simulated examinations as the verb writes them."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fvv
from builders import write_onnx, write_patient
from fvv.config import ComputeConfig, PredictConfig
from fvv.stages.predict import predict


@pytest.fixture
def results(tmp_path: Path, rng: np.random.Generator) -> Path:
    for name in ("anna", "bert"):
        write_patient(tmp_path / "in" / name, rng, lesion=name == "anna")
    (tmp_path / "in" / "carl").mkdir()
    write_onnx(tmp_path / "models" / "model1.onnx")
    config = PredictConfig(compute=ComputeConfig(threads=1))
    predict(str(tmp_path / "in"), str(tmp_path / "models"), str(tmp_path / "out"), config)
    return tmp_path / "out"


def test_rows_columns_and_failures(results: Path) -> None:
    found = fvv.read_results(str(results))
    assert [row.examination_id for row in found.rows] == ["anna", "bert"]
    assert [failure.examination_id for failure in found.failures] == ["carl"]
    with (results / "results.csv").open(encoding="utf-8", newline="") as stream:
        table = list(csv.DictReader(stream))
    columns = found.columns()
    assert list(columns) == list(table[0])
    assert columns["FlairVizVolume"] == [row.fvv_ml for row in found.rows]
    assert [float(row["StrokeBlobVolume"]) for row in table] == columns["StrokeBlobVolume"]


def test_one_patient_alone(results: Path) -> None:
    (row,) = fvv.read_results(results / "anna").rows
    assert row.examination_id == "anna"


def test_a_file_that_was_changed_is_refused(results: Path) -> None:
    (results / "anna" / "predictions.nii.gz").write_bytes(b"other")
    with pytest.raises(fvv.FvvError, match=r"predictions\.nii\.gz"):
        fvv.read_results(results)


def test_a_simulated_case_is_that_of_the_verb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("nilearn")
    from fvv.stages.simulate import simulate  # noqa: PLC0415

    monkeypatch.setattr("fvv.simulator.patient.FINE_VOXEL_MM", 2.0)
    monkeypatch.setattr("fvv.simulator.patient.SUBSLICES", 1)
    settings: dict[str, Any] = {"seed": 5, "only": 50, "cases": 50, "compute": {"workers": 1}}
    simulate(str(tmp_path / "cohort"), fvv.SimulateConfig(**settings))
    case = fvv.simulate_case(seed=5, number=50)
    for name, array in (("b0", case.b0), ("b1000", case.b1000), ("stroke_roi", case.stroke)):
        written = fvv.read(tmp_path / "cohort" / "sim_0050" / f"{name}.nii.gz")
        np.testing.assert_array_equal(written.array, array)
        np.testing.assert_allclose(written.affine, case.affine, atol=1e-4)
    with pytest.raises(ValueError, match="only"):
        fvv.simulate_case(number=0)
