"""The table of post-processing options holds strangers to the models only, and only those who get an answer."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from builders import save, write_onnx, write_patient
from fvv.config import PROFILES
from fvv.data import hashed_ids
from fvv.errors import InputError, ModelError
from fvv.io.bundle import write_manifest
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256

BENCHMARK = Path(__file__).resolve().parents[1] / "benchmarks" / "postprocess.py"


@pytest.fixture(scope="module")
def table() -> Callable[[list[str]], None]:
    main: Callable[[list[str]], None] = runpy.run_path(str(BENCHMARK))["main"]
    return main


def write_bundle(folder: Path, *, trained_on: tuple[str, ...]) -> Path:
    file = write_onnx(folder / "model1.onnx", biases=(0.4, -2.0, -3.2))
    entry = ModelEntry(file=file.name, sha256=file_sha256(file), fold=0, trained_on=trained_on)
    profile = PROFILES["reference-v1"]
    write_manifest(folder, BundleManifest(software="x", run_name="r", profile=profile, models=(entry,)))
    return folder


def test_a_patient_whom_a_model_has_seen_ends_the_run(
    tmp_path: Path, rng: np.random.Generator, table: Callable[[list[str]], None]
) -> None:
    write_patient(tmp_path / "in" / "anna", rng)
    for trained_on, message in ((hashed_ids(["anna"]), "trained on this person"), ((), "does not say on whom")):
        models = write_bundle(tmp_path / "models", trained_on=trained_on)
        with pytest.raises(ModelError, match=message):
            table([str(models), str(tmp_path / "in"), "--threads", "1"])


def test_patients_without_an_answer_are_in_no_number(
    tmp_path: Path,
    rng: np.random.Generator,
    capsys: pytest.CaptureFixture[str],
    table: Callable[[list[str]], None],
) -> None:
    """The mask of zoe holds the air around her too: several times the brain that the model marks."""
    models = write_bundle(tmp_path / "models", trained_on=("x",))
    words = [str(models), str(tmp_path / "in"), "--threads", "1"]
    for name, visible in (("anna", True), ("berta", False)):
        write_patient(tmp_path / "in" / name, rng, visible=visible)
    table(words)
    without = capsys.readouterr().out
    assert without.startswith("2 patients, 2 with a lesion")
    images = write_patient(tmp_path / "in" / "zoe", rng)
    save(tmp_path / "in" / "zoe" / "mask.nii.gz", np.ones_like(images["brain"]))
    table(words)
    left_out, rest = capsys.readouterr().out.split("\n", maxsplit=1)
    assert left_out.startswith("left out: patient zoe: not assessable: the models found ")
    assert rest == without
    (tmp_path / "zoe_only").mkdir()
    (tmp_path / "in" / "zoe").rename(tmp_path / "zoe_only" / "zoe")
    with pytest.raises(InputError, match="no patient could be measured"):
        table([str(models), str(tmp_path / "zoe_only"), "--threads", "1"])
