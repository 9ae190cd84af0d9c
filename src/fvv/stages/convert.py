"""Stage 3: from the best checkpoint of every fold to a bundle of ONNX models that agree with PyTorch."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fvv import __version__
from fvv.arrays import FloatArray
from fvv.config import ConvertConfig, DecisionConfig, Precision
from fvv.data import Channel, Failure, PreparedCase, Role, hashed_ids
from fvv.errors import ModelError
from fvv.imaging.quality.usual import usual_features, usual_range
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import golden_input, golden_output
from fvv.io.atomic import atomic_write
from fvv.io.bundle import (
    BundleFile,
    BundleManifest,
    ModelBundle,
    ModelEntry,
    QuantisedModel,
    write_manifest,
)
from fvv.io.bundle_folder import PresentBundle, bundle_names
from fvv.io.bundle_size import leave_out_forms
from fvv.io.golden import GOLDEN_FILE, write_golden
from fvv.io.lock import only_writer
from fvv.io.ownership import claim
from fvv.io.runs import BEST, fold_folder
from fvv.io.store import CaseStore
from fvv.recipes.parity import Proof, compare_forms
from fvv.system.fingerprint import file_sha256
from fvv.system.parallel import track

if TYPE_CHECKING:
    from fvv.training.checkpoint import TrainedModel

log = logging.getLogger(__name__)

DIFFERENCE = "largest_logit_difference"
SLAB_DIFFERENCE = "largest_slab_difference"
CALIBRATION_SLICES = 8
"""Slices of a calibration patient, around the one with most stroke."""
RANGE_PATIENTS = 500
"""Training patients, at most, whose intensities tell later what is unusual: more cost minutes and widen it little."""


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What conversion made.

    Attributes:
        bundle: the folder.
        models: an entry for each fold, with what the comparisons gave.
        changed: lines on patients whose decision another form of a model changed.
        failures: none; conversion is whole or not at all.
    """

    bundle: Path
    models: tuple[ModelEntry, ...]
    changed: tuple[str, ...] = ()
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """A table of the models and how each form compares with the one before it, on real volumes."""
        lines = [
            f"{'model':<18}{'fold':>5}{'epoch':>7}{'score':>8}{'against':>9}{'patients':>10}{'max |d logit|':>15}"
            f"{'slab vs volume':>16}{'sign flips':>20}{'stroke Dice':>13}{'max |d FVV| mL':>16}{'decisions':>11}"
        ]
        for model in self.models:
            about = f"{model.fold:>5}{(model.epoch or 0) + 1:>7}{model.score:>8.3f}"
            lines.append(f"{model.file:<18}{about}{'PyTorch':>9}{_row(model.checks)}")
            if model.int8 is not None:
                lines.append(f"{model.int8.file:<18}{about}{'fp32':>9}{_row(model.int8.checks)}")
        return "\n".join([*lines, *self.changed, f"bundle: {self.bundle}"])


def _row(checks: Mapping[str, float]) -> str:
    slab = f"{checks[SLAB_DIFFERENCE]:.1e}" if SLAB_DIFFERENCE in checks else ""
    flips = f"{checks['sign_flips']:.0f} of {checks['voxels']:.3g}"
    return (
        f"{checks['patients']:>10.0f}{checks[DIFFERENCE]:>15.1e}{slab:>16}{flips:>20}{checks['stroke_dice']:>13.4f}"
        f"{checks['largest_fvv_difference_ml']:>16.2g}{checks['decisions_changed']:>11.0f}"
    )


def convert(
    checkpoints: Path,
    store: Path,
    output: Path,
    config: ConvertConfig,
    *,
    name: str,
    chosen: Mapping[int, Path] | None = None,
    overwrite: bool = False,
) -> ConvertResult:
    """Convert one checkpoint per fold; the bundle is written whole, or not at all.

    A bundle of the same models in the output folder is brought up to date, and keeps its calibration and card.
    Files there that are not the bundle's stay in any case.

    Args:
        checkpoints: saved_models, as `train` wrote it; or one checkpoint, for a bundle of that model alone.
        store: prepared patients, to compare onnxruntime with PyTorch on.
        output: folder of the bundle.
        config: how much is compared, and what difference is accepted.
        name: of the run.
        chosen: checkpoints the user wants instead of a fold's best.
        overwrite: replace a bundle of other models, with all that was measured with it.

    Raises:
        ModelError: a fold without checkpoint, checkpoints that do not belong together or to the store, or a difference
            over the tolerance.
        OutputExistsError: the output folder holds something other than a bundle, a bundle of other models, or a file
            of somebody else where one of the bundle's belongs.
    """
    cases = CaseStore.open(store)
    paths = _checkpoint_paths(checkpoints, cases.folds.n_folds, name, dict(chosen or {}))
    models = _read_models(paths, cases)
    output = output.resolve() if output.is_symlink() else output  # The folder is replaced, not the link to it.
    with only_writer(output, replaced=True), atomic_write(output) as folder:
        names = bundle_names([model.fold for model in models], int8=config.int8, fused=config.fused)
        present = PresentBundle.find(output)
        if present is not None:
            present.refuse_taken_names(names)
            if not overwrite:
                present.refuse_other_runs({model.fold: (model.run_id, model.epoch) for model in models})
        claim(folder, names)
        converted = [_convert_model(model, cases, folder, config) for model in track(models, "convert", len(models))]
        entries, int8_only = leave_out_forms(folder, [entry for entry, _ in converted], config.largest_mb)
        manifest = BundleManifest(
            software=f"fvv {__version__}",
            run_name=models[0].run_name,
            notice=config.notice,
            profile=cases.profile,
            channels=tuple(channel.label for channel in Channel),
            intensity_range=_intensity_range(models, cases),
            models=entries,
            int8_only=int8_only,
            postprocess=config.postprocess,
        )
        bundle = ModelBundle(folder, manifest)
        golden = _write_golden(bundle)
        fused = {precision: _fuse(bundle, precision) for precision in bundle.precisions} if config.fused else {}
        manifest = manifest.model_copy(update={"golden": golden, "fused": fused})
        if present is not None:
            manifest = _carry_over(present, folder, manifest, overwrite=overwrite)
        write_manifest(folder, manifest)
    measured = tuple(entry for entry, _ in converted)
    return ConvertResult(output, measured, tuple(line for _, lines in converted for line in lines))


def _carry_over(present: PresentBundle, folder: Path, manifest: BundleManifest, *, overwrite: bool) -> BundleManifest:
    if not overwrite:
        present.refuse_other_models(manifest)
    present.move_along(folder, manifest)
    return present.kept(manifest)


def _checkpoint_paths(checkpoints: Path, n_folds: int, name: str, chosen: dict[int, Path]) -> list[Path]:
    """One checkpoint for every fold, or the one that was named alone."""
    if checkpoints.is_file():
        if chosen:
            raise ModelError("one checkpoint was named, and others chosen beside it", file=checkpoints)
        return [checkpoints]
    if unknown := sorted(set(chosen) - set(range(n_folds))):
        raise ModelError(f"checkpoint given for fold {unknown[0]}; the split has folds 0 to {n_folds - 1}")
    paths = {fold: chosen.get(fold, fold_folder(checkpoints, name, fold) / BEST) for fold in range(n_folds)}
    if missing := [fold for fold, path in paths.items() if not os.path.lexists(path)]:
        raise ModelError(
            f"no checkpoint for fold {', '.join(map(str, missing))}",
            file=paths[missing[0]],
            hint="train every fold first (`fvv train --all-folds`), or name the run with --name",
        )
    return list(paths.values())


def _read_models(paths: Sequence[Path], store: CaseStore) -> tuple[TrainedModel, ...]:
    """The checkpoints: each of the fold it stands for, all of one run and made for this store."""
    # Here and not above: torch takes seconds to load, and importing this module must not.
    from fvv.training.checkpoint import read_checkpoint  # noqa: PLC0415

    n_folds = store.folds.n_folds
    models = tuple(read_checkpoint(path) for path in paths)
    for number, model in enumerate(models):
        fold = model.fold if len(models) == 1 else number
        if (model.fold, model.n_folds) != (fold, n_folds):
            raise ModelError(
                f"trained on fold {model.fold} of {model.n_folds}, given for fold {fold} of {n_folds}",
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


def _convert_model(
    model: TrainedModel, store: CaseStore, folder: Path, config: ConvertConfig
) -> tuple[ModelEntry, list[str]]:
    """Export one fold in each form asked for, and prove it; gives the entry and lines on changed decisions."""
    from fvv.training.export import export_onnx  # noqa: PLC0415

    file = folder / f"model{model.fold + 1}.onnx"
    export_onnx(model, file)
    opened = OnnxEnsemble([file], model.profile, device="cpu")
    proof, slab_difference = _compare_with_torch(model, opened, store, config)
    if not proof.largest_logit_difference <= config.logit_tolerance or not slab_difference <= config.logit_tolerance:
        raise ModelError(
            f"fold {model.fold}: logits of onnxruntime and PyTorch differ by {proof.largest_logit_difference:.2g}, of "
            f"slabs and volumes by {slab_difference:.2g}; accepted is {config.logit_tolerance:.2g}",
            file=model.path,
        )
    if proof.changed:
        raise ModelError(f"fold {model.fold}: {_changes(proof, file)[0]}", file=model.path)
    int8, lines = _quantise_model(model, file, opened, store, config) if config.int8 else (None, [])
    entry = ModelEntry(
        file=file.name,
        sha256=file_sha256(file),
        fold=model.fold,
        run_id=model.run_id,
        epoch=model.epoch,
        score=model.score,
        trained_on=tuple(sorted({*model.training_person_ids, *model.training_image_ids})),
        checks={**proof.numbers(), SLAB_DIFFERENCE: slab_difference},
        int8=int8,
    )
    return entry, lines


def _quantise_model(
    model: TrainedModel, file: Path, fp32: OnnxEnsemble, store: CaseStore, config: ConvertConfig
) -> tuple[QuantisedModel, list[str]]:
    """Make the INT8 form from training patients of the fold; hold it against float32 on patients of its test part."""
    from fvv.training.graphs import quantise  # noqa: PLC0415

    target = file.with_name(f"{file.stem}.int8.onnx")
    patients = _most_lesion_first(store, model.fold, Role.TRAIN)[: config.calibration_patients]
    context = model.profile.context_slices
    quantise(file, target, (_around_the_stroke(store.read(patient), context) for patient in patients))
    int8 = OnnxEnsemble([target], model.profile, device="cpu")
    proof = compare_forms(
        lambda padded: fp32.logits(padded)[0],
        lambda padded: int8.logits(padded)[0],
        _test_cases(store, model.fold, config.int8_check_patients),
        profile=model.profile,
        decision=DecisionConfig(),
    )
    if not proof.stroke_dice >= config.minimum_int8_dice:
        raise ModelError(
            f"fold {model.fold}: strokes of INT8 and float32 agree with Dice {proof.stroke_dice:.3f}, accepted is "
            f"{config.minimum_int8_dice:g}",
            file=model.path,
            hint="convert without --int8, or calibrate on more patients (--set convert.calibration_patients=...)",
        )
    calibrated_on = hashed_ids(store.record(patient).image_sha256 for patient in patients)
    entry = QuantisedModel(
        file=target.name, sha256=file_sha256(target), calibrated_on=calibrated_on, checks=proof.numbers()
    )
    return entry, _changes(proof, target)


def _compare_with_torch(
    model: TrainedModel, opened: OnnxEnsemble, store: CaseStore, config: ConvertConfig
) -> tuple[Proof, float]:
    """Volumes against PyTorch on patients that the fold never saw in training, and one slab against its volume."""
    from fvv.training.export import torch_logits  # noqa: PLC0415

    context = model.profile.context_slices
    proof = compare_forms(
        lambda padded: torch_logits(model, padded),
        lambda padded: opened.logits(padded)[0],
        _test_cases(store, model.fold, config.check_patients),
        profile=model.profile,
        decision=DecisionConfig(),
    )
    (case,) = _test_cases(store, model.fold, 1)
    padded, centre = network_input(case, context), case.n_slices // 2
    whole = opened.logits(padded)[0, :, centre]
    slab = opened.logits(padded[:, centre : centre + 2 * context + 1])[0, :, 0]
    return proof, float(np.abs(whole - slab).max())


def _intensity_range(models: Sequence[TrainedModel], store: CaseStore) -> dict[str, tuple[float, float]]:
    """What the patients look like that trained any of the models; `predict` warns about others."""
    trained = sorted({name for model in models for name in store.folds.participants(model.fold, Role.TRAIN)})
    looked_at = trained[:: -(-len(trained) // RANGE_PATIENTS)]
    return usual_range(usual_features(store.read(name)) for name in track(looked_at, "training cohort", len(looked_at)))


def _fuse(bundle: ModelBundle, precision: Precision) -> BundleFile:
    from fvv.training.graphs import fuse  # noqa: PLC0415

    target = bundle.path / ("ensemble.onnx" if precision == "fp32" else f"ensemble.{precision}.onnx")
    fuse([bundle.file(model, precision) for model in bundle.models], target)
    return BundleFile(file=target.name, sha256=file_sha256(target))


def _write_golden(bundle: ModelBundle) -> BundleFile:
    images = golden_input(bundle.profile)
    outputs: dict[str, FloatArray] = {
        precision: golden_output(OnnxEnsemble.from_bundle(bundle, precision=precision, device="cpu"), images)
        for precision in bundle.precisions
    }
    write_golden(bundle.path / GOLDEN_FILE, images, outputs)
    return BundleFile(file=GOLDEN_FILE, sha256=file_sha256(bundle.path / GOLDEN_FILE))


def _changes(proof: Proof, file: Path) -> list[str]:
    return [
        f"{file.name} changes the decision of {patient}: {before.value} becomes {after.value}"
        for patient, before, after in proof.changed
    ]


def _test_cases(store: CaseStore, fold: int, n: int) -> Iterator[PreparedCase]:
    return (store.read(patient) for patient in _most_lesion_first(store, fold, Role.TEST)[:n])


def _most_lesion_first(store: CaseStore, fold: int, role: Role) -> list[str]:
    """The fold's patients in a role; a comparison without lesion would prove little."""
    return sorted(store.folds.participants(fold, role), key=lambda patient: -store.record(patient).stroke_ml)


def _around_the_stroke(case: PreparedCase, context: int) -> FloatArray:
    """Network input for the slices around the one with most stroke: (2, slices + 2 * context, 256, 256)."""
    per_slice = np.zeros(case.n_slices) if case.stroke is None else case.stroke.sum(axis=(0, 1))
    first = int(np.clip(per_slice.argmax() - CALIBRATION_SLICES // 2, 0, max(case.n_slices - CALIBRATION_SLICES, 0)))
    return network_input(case, context)[:, first : first + CALIBRATION_SLICES + 2 * context]
