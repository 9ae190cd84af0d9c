"""Sound inputs, made once: every variant breaks a copy of them."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
import yaml

from builders import write_cohort, write_onnx, write_patient
from fvv import __version__
from fvv.cli import main
from fvv.data import Role, hashed_ids
from fvv.io.bundle import write_manifest
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256
from store_builders import PROFILE, TINY, write_store

QUICK_EVALUATION = {"bootstrap_samples": 20, "heatmaps": False, "viewer_patients": 1}
TINY_TRAINING = TINY.model_copy(update={"epochs": 1, "figures_every_epochs": 9})


def make_base(folder: Path, *, with_torch: bool) -> None:
    """Write the folders that `registry.Place` copies."""
    rng = np.random.default_rng(7)
    write_cohort(folder / "cohort", rng, 4)
    for name in ("n0", "n1"):
        write_patient(folder / "new" / name, rng)
        for roi in ("stroke_roi", "flairviz_roi"):
            (folder / "new" / name / f"{roi}.nii.gz").unlink()
    store = write_store(folder / "store", patients=4)
    for number, visible in enumerate((-3.2, -3.0), start=1):
        write_onnx(folder / "models" / f"model{number}.onnx", whole_volume=False, biases=(1.5, -2.0, visible))
    entries = []
    for fold in range(store.folds.n_folds):
        file = write_onnx(folder / "bundle" / f"model{fold + 1}.onnx")
        rows = [row for row in store.folds.rows if row.roles[fold] is not Role.TEST]
        seen = [store.record(row.examination_id).image_sha256 for row in rows]
        trained_on = hashed_ids([*(row.person_id for row in rows), *seen])
        entries.append(ModelEntry(file=file.name, sha256=file_sha256(file), fold=fold, trained_on=trained_on))
    about = {"software": f"fvv {__version__}", "run_name": "tiny", "profile": PROFILE}
    write_manifest(folder / "bundle", BundleManifest(**about, models=tuple(entries)))
    settings = {"train": TINY_TRAINING.model_dump(mode="json"), "evaluate": QUICK_EVALUATION}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(settings))
    _run("prepare", "-i", folder / "cohort", "-o", folder / "prepared", "-k", "3", "--workers", "1")
    words = (folder / "new", "-m", folder / "models", "-o", folder / "predicted", "--device", "cpu")
    _run("predict", *words)
    where = ("-i", folder / "store", "-m", folder / "bundle", "-o", folder / "evaluated")
    _run("evaluate", *where, "-c", folder / "tiny.yaml")
    if with_torch:
        words = ("-i", folder / "store", "-o", folder / "trained", "-c", folder / "tiny.yaml")
        _run("train", "--all-folds", *words)


def _run(*words: object) -> None:
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = main([str(word) for word in words])
    if code:
        raise SystemExit(f"the sound inputs could not be made: {said.getvalue()}")
