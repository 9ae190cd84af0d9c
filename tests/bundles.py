"""A bundle of small models that says on whom it was trained."""

from __future__ import annotations

from pathlib import Path

from builders import BIASES, write_onnx
from fvv.data import Role, hashed_ids
from fvv.io.bundle import write_manifest
from fvv.io.store import CaseStore
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256


def write_bundle(folder: Path, store: Path, biases: tuple[float, ...] = BIASES, **changes: object) -> Path:
    """A model for each fold; each fold's differs a little, so that a mix-up shows."""
    cases = CaseStore.open(store)
    entries = []
    for fold in range(cases.folds.n_folds):
        file = write_onnx(folder / f"model{fold + 1}.onnx", biases=(biases[0], biases[1] + 0.2 * fold, biases[2]))
        trained = [name for role in (Role.TRAIN, Role.VALID) for name in cases.folds.participants(fold, role)]
        records = [cases.record(name) for name in trained]
        ids = [record.participant.person_id for record in records] + [record.image_sha256 for record in records]
        entries.append(ModelEntry(file=file.name, sha256=file_sha256(file), fold=fold, trained_on=hashed_ids(ids)))
    manifest = BundleManifest(
        software="test", run_name="tiny", profile=cases.profile,
        models=tuple(entries),
    )  # fmt: skip
    write_manifest(folder, manifest.model_copy(update=changes))
    return folder
