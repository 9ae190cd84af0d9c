"""Stage 3: from the best checkpoint of every fold to a bundle of ONNX models that agree with PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fvv import __version__
from fvv.arrays import FloatArray
from fvv.config import ConvertConfig
from fvv.data import Channel, Failure, FoldPlan, PreparedCase, Role
from fvv.errors import ModelError, OutputExistsError
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.atomic import atomic_write
from fvv.io.bundle import BUNDLE_FILE, BundleManifest, ModelEntry, file_sha256, write_manifest
from fvv.io.runs import BEST, fold_folder
from fvv.io.store import CaseStore
from fvv.parallel import track

if TYPE_CHECKING:
    from fvv.training.checkpoint import TrainedModel

log = logging.getLogger(__name__)

DIFFERENCE = "largest_logit_difference"
SLAB_DIFFERENCE = "largest_slab_difference"
FLIPS = "sign_flips"
VOXELS = "voxels"
FVV_DIFFERENCE = "largest_fvv_difference_ml"


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What conversion made.

    Attributes:
        bundle: the folder.
        models: an entry for each fold, with what the comparison with PyTorch gave.
        failures: none; conversion is whole or not at all.
    """

    bundle: Path
    models: tuple[ModelEntry, ...]
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """A table of the models and how onnxruntime compares with PyTorch on real volumes."""
        lines = [
            f"{'model':<14}{'fold':>5}{'epoch':>7}{'score':>8}{'max |d logit|':>15}{'slab vs volume':>16}"
            f"{'sign flips':>20}{'max |d FVV| mL':>16}"
        ]
        for model in self.models:
            checks = model.checks
            flips = f"{checks[FLIPS]:.0f} of {checks[VOXELS]:.3g}"
            lines.append(
                f"{model.file:<14}{model.fold:>5}{(model.epoch or 0) + 1:>7}{model.score:>8.3f}"
                f"{checks[DIFFERENCE]:>15.1e}{checks[SLAB_DIFFERENCE]:>16.1e}{flips:>20}"
                f"{checks[FVV_DIFFERENCE]:>16.2g}"
            )
        return "\n".join([*lines, f"bundle: {self.bundle}"])


def convert(
    checkpoints: Path,
    store: Path,
    output: Path,
    config: ConvertConfig,
    *,
    name: str,
    chosen: Mapping[int, Path] | None = None,
) -> ConvertResult:
    """Convert one checkpoint per fold; the bundle is written whole, or not at all.

    Args:
        checkpoints: saved_models, as `train` wrote it.
        store: prepared patients, to compare onnxruntime with PyTorch on.
        output: folder of the bundle; an older bundle there is replaced.
        config: how much is compared, and what difference is accepted.
        name: of the run.
        chosen: checkpoints the user wants in place of a fold's best.

    Raises:
        ModelError: a fold without checkpoint, checkpoints that do not belong together or to the store, or a difference
            over the tolerance.
        OutputExistsError: the output folder holds something other than a bundle.
    """
    cases = CaseStore.open(store)
    models = _read_models(checkpoints, cases, name, dict(chosen or {}))
    if output.exists() and not (output / BUNDLE_FILE).exists() and any(output.iterdir()):
        raise OutputExistsError("holds something other than a bundle", file=output, hint="name another folder with -o")
    with atomic_write(output) as folder:
        folder.mkdir(parents=True)
        entries = tuple(
            _convert_model(model, cases, folder, config) for model in track(models, "Converting", len(models))
        )
        manifest = BundleManifest(
            software=f"fvv {__version__}",
            run_name=models[0].run_name,
            profile=cases.profile,
            channels=tuple(channel.label for channel in Channel),
            models=entries,
        )
        write_manifest(folder, manifest)
    return ConvertResult(output, entries)


def _read_models(checkpoints: Path, store: CaseStore, name: str, chosen: dict[int, Path]) -> tuple[TrainedModel, ...]:
    """One checkpoint per fold, all of one run and made for this store."""
    # Here and not above: torch takes seconds to load, and importing this module must not.
    from fvv.training.checkpoint import read_checkpoint  # noqa: PLC0415

    folds = range(store.folds.n_folds)
    if unknown := sorted(set(chosen) - set(folds)):
        raise ModelError(f"checkpoint given for fold {unknown[0]}; the split has folds 0 to {len(folds) - 1}")
    paths = {fold: chosen.get(fold, fold_folder(checkpoints, name, fold) / BEST) for fold in folds}
    if missing := [fold for fold, path in paths.items() if not path.is_file()]:
        raise ModelError(
            f"no checkpoint for fold {', '.join(map(str, missing))}",
            file=paths[missing[0]],
            hint="train every fold first (`fvv train --all-folds`), or name the run with --name",
        )
    models = tuple(read_checkpoint(path) for path in paths.values())
    for fold, model in zip(folds, models, strict=True):
        if (model.fold, model.n_folds) != (fold, len(folds)):
            raise ModelError(
                f"trained on fold {model.fold} of {model.n_folds}, given for fold {fold} of {len(folds)}",
                file=model.path,
            )
        if (model.run_name, model.run_id, model.network) != (models[0].run_name, models[0].run_id, models[0].network):
            raise ModelError(
                f"run {model.run_name} {model.run_id} is another than fold 0's {models[0].run_name} {models[0].run_id}",
                file=model.path,
                hint="all folds of a bundle must come from one run: same settings, same data, same split",
            )
        if model.profile != store.profile:
            raise ModelError(
                f"trained with preprocessing profile {model.profile.name}, the store has {store.profile.name}",
                file=model.path,
                hint="name the store it was trained on with --store",
            )
    return models


def _convert_model(model: TrainedModel, store: CaseStore, folder: Path, config: ConvertConfig) -> ModelEntry:
    from fvv.training.export import export_onnx  # noqa: PLC0415

    file = folder / f"model{model.fold + 1}.onnx"
    export_onnx(model, file)
    checks = _compare(model, file, store, config)
    if not checks[DIFFERENCE] <= config.logit_tolerance or not checks[SLAB_DIFFERENCE] <= config.logit_tolerance:
        raise ModelError(
            f"fold {model.fold}: logits of onnxruntime and PyTorch differ by {checks[DIFFERENCE]:.2g}, of slabs and "
            f"volumes by {checks[SLAB_DIFFERENCE]:.2g}; accepted is {config.logit_tolerance:.2g}",
            file=model.path,
        )
    return ModelEntry(
        file=file.name,
        sha256=file_sha256(file),
        fold=model.fold,
        run_id=model.run_id,
        epoch=model.epoch,
        score=model.score,
        trained_on=tuple(sorted({*model.training_person_ids, *model.training_image_ids})),
        checks=checks,
    )


def _compare(model: TrainedModel, file: Path, store: CaseStore, config: ConvertConfig) -> dict[str, float]:
    """Run both on patients that the fold never saw in training: whole volumes, and one slab of each."""
    from fvv.training.export import torch_logits  # noqa: PLC0415

    context = model.profile.context_slices
    ensemble = OnnxEnsemble([file], model.profile, device="cpu")
    checks = dict.fromkeys((DIFFERENCE, SLAB_DIFFERENCE, FLIPS, VOXELS, FVV_DIFFERENCE), 0.0)
    patients = _most_lesion_first(store, store.folds, model.fold)[: config.check_patients]
    for case in (store.read(patient) for patient in patients):
        padded = network_input(case, context)
        expected, found = torch_logits(model, padded), ensemble.logits(padded)[0]
        centre = case.n_slices // 2
        slab = ensemble.logits(padded[:, centre : centre + 2 * context + 1])[0, :, 0]
        fvv = [_fvv_ml(logits, case) for logits in (expected, found)]
        # np.fmax would hide a NaN; max of a NaN and a number depends on their order.
        checks[DIFFERENCE] = float(np.maximum(checks[DIFFERENCE], np.abs(expected - found).max()))
        checks[SLAB_DIFFERENCE] = float(np.maximum(checks[SLAB_DIFFERENCE], np.abs(found[:, centre] - slab).max()))
        checks[FLIPS] += float(((expected > 0) != (found > 0)).sum())
        checks[VOXELS] += float(expected.size)
        checks[FVV_DIFFERENCE] = max(checks[FVV_DIFFERENCE], abs(fvv[0] - fvv[1]))
    return {"patients": float(len(patients)), **checks}


def _most_lesion_first(store: CaseStore, plan: FoldPlan, fold: int) -> list[str]:
    """The fold's test patients; a comparison without lesion would prove little."""
    return sorted(plan.participants(fold, Role.TEST), key=lambda patient: -store.record(patient).stroke_ml)


def _fvv_ml(logits: FloatArray, case: PreparedCase) -> float:
    return float(fuse_folds((logits > 0)[None]).flair_visible_voxels) * case.voxel_volume_ml
