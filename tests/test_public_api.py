"""`import fvv`: quick, real to type checkers and to `dir()`, each name with an example that runs; a user's script."""

from __future__ import annotations

import ast
import doctest
import importlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

import fvv

SOURCE = Path(fvv.__file__)
NAMES = sorted(set(fvv.__all__) - {"__version__"})
IN_SCHEMAS = {"Agreement", "Answer", "DecisionState", "Estimate", *(name for name in NAMES if name.endswith("Config"))}
"""Their docstrings stand in JSON Schemas; the functions that take or give them have the example."""
SCRIPT = """
import sys
from pathlib import Path

import nibabel
import numpy as np

import fvv

folder, results = Path(sys.argv[1]), sys.argv[2]
config = fvv.PredictConfig(
    decision=fvv.DecisionConfig(cutoff_ml=0.8),
    preprocess=fvv.PreprocessConfig(resample_b0=True),
    compute=fvv.ComputeConfig(threads=1),
)
predictor: fvv.Predictor = fvv.Predictor(config=config)
from_files: fvv.Prediction = predictor(folder / "b0.nii.gz", str(folder / "b1000.nii.gz"))
images = [nibabel.load(folder / name) for name in ("b0.nii.gz", "b1000.nii.gz")]
from_nibabel = predictor(*images, examination_id="anna")
b0, b1000 = (fvv.read(image) for image in images)
from_arrays = fvv.predict((b0.array, b0.affine), b1000, config=predictor.config)
for prediction in (from_nibabel, from_arrays):
    assert prediction.fvv_ml == from_files.fvv_ml
assert from_files.stroke is not None
stroke = fvv.Volume(from_files.stroke, b1000.affine)
stroke.to_nibabel().to_filename(folder / "stroke.nii.gz")
comparison: fvv.MaskComparison = fvv.compare_masks(stroke, fvv.read(folder / "stroke.nii.gz"))
dice: float = comparison.dice_coefficient
assert dice == 1 and comparison.predicted_ml == comparison.reference_ml
lesions: list[float] = [size for size, found in comparison.lesions if found]
fvv.plot(from_files).savefig(folder / "anna.png")
area: fvv.Estimate = fvv.auc([0.1, 0.2, 3.0, 0.3, 4.0], np.array([True, True, True, False, False]))
low: float = area.low
raters: fvv.Estimate = fvv.kappa(["a", "b", "b"], ["a", "b", "a"], persons=[1, 2, 2])
pairs: fvv.Agreement = fvv.agreement([1.0, 2.0, 3.0], [1.5, 2.0, 4.0])
bias: float = pairs.bias.value
table: fvv.CohortResults = fvv.read_results(results)
row: fvv.Answer = table.rows[0]
answers: list[fvv.DecisionState] = [row.decision for row in table.rows]
assert table.columns()["decision"] == [answer.value for answer in answers]
volume: float | None = from_files.volume_ml(fvv.Channel.STROKE)
simulate = fvv.simulate_case
def simulated(seed: int) -> fvv.Prediction:
    case: fvv.SimulatedCase = simulate(seed, 3, fvv.SimulateConfig(sites=1))
    return predictor((case.b0, case.affine), (case.b1000, case.affine), mask=(case.brain, case.affine))
decision: fvv.Decision = from_files.decision
print(decision.state.value, [(reason.code, reason.message) for reason in decision.reasons])
case = fvv.Case("anna", b0, b1000, mask=fvv.Volume(b0.array > 100, b0.affine))
prepared: fvv.PreparedCase = fvv.preprocess_case(case, predictor.bundle.profile)
voxels: int = int(fvv.segment_case(prepared, predictor.models).stroke.sum())
def folds(plan: fvv.FoldPlan) -> int:
    return plan.n_folds
try:
    fvv.read("nothing.nii")
except fvv.FvvError as error:
    print(error.hint, error.file)
"""


def test_dir_and_type_checkers_see_what_there_is() -> None:
    assert set(NAMES) == {name for name in dir(fvv) if not name.startswith("_")}
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    seen = {(alias.asname, node.module) for node in block.body for alias in node.names}  # type: ignore[attr-defined]
    assert seen == {(name, home) for home, names in fvv._HOMES.items() for name in names}
    for name in NAMES:
        assert getattr(fvv, name).__module__.startswith("fvv.")
    with pytest.raises(AttributeError, match="no attribute 'predictor'"):
        fvv.predictor  # noqa: B018


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_the_example_of_each_name_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tests = doctest.DocTestFinder(exclude_empty=True).find(getattr(fvv, name), name, globs={})
    assert name in IN_SCHEMAS or any(test.name == name and test.examples for test in tests)
    if {"auc", "agreement", "kappa"} & {name}:
        pytest.importorskip("statsmodels")
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.IGNORE_EXCEPTION_DETAIL)
    said: list[str] = []
    for test in tests:
        runner.run(test, out=said.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(said)


def test_a_users_script_is_typed_and_runs(tmp_path: Path, rng: Any) -> None:
    pytest.importorskip("mypy")
    pytest.importorskip("statsmodels")
    from builders import write_patient  # noqa: PLC0415  (builds ONNX models, which the core cannot)
    from fvv.io.shipped import shipped_or_refuse  # noqa: PLC0415

    write_patient(tmp_path / "anna", rng, mask=False)
    predict = importlib.import_module("fvv.stages.predict").predict
    predict(tmp_path / "anna", shipped_or_refuse(), tmp_path / "results", fvv.PredictConfig())
    assert [name for name in NAMES if f"fvv.{name}" not in SCRIPT] == []
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(SOURCE.parents[1]), "MYPYPATH": str(SOURCE.parents[1])}
    config = tmp_path / "mypy.ini"  # Not this package's own, which has pydantic's plugin: a user has none.
    config.write_text("[mypy]\nstrict = true\n", encoding="utf-8")
    cache = Path(tempfile.gettempdir()) / "fvv_mypy_of_a_user"  # Kept: the first time takes half a minute.
    mypy = ["-m", "mypy", "--config-file", str(config), "--cache-dir", str(cache), "--follow-imports=silent"]
    for command in ([*mypy, str(script)], [str(script), str(tmp_path / "anna"), str(tmp_path / "results")]):
        run = subprocess.run(
            [sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stdout + run.stderr
