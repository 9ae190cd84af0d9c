"""Stage 3: from the best checkpoint of every fold to a bundle of ONNX models that agree with PyTorch."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fvv import __version__
from fvv.config import ConvertConfig, DecisionConfig
from fvv.data import ALL_FOLDS, Failure, Role
from fvv.errors import ConfigError, ModelError
from fvv.imaging.quality.usual import usual_features, usual_range
from fvv.inference.ensemble import OnnxEnsemble
from fvv.inference.golden import golden_input, golden_output
from fvv.io.atomic import atomic_write
from fvv.io.bundle import GOLDEN_FILE, write_golden, write_manifest
from fvv.io.bundle_folder import PresentBundle, bundle_names, model_file
from fvv.io.lock import only_writer
from fvv.io.ownership import claim
from fvv.io.runs import BEST, fold_folder, fold_title
from fvv.io.store import CaseStore
from fvv.names import plain
from fvv.recipes.parity import compare_forms
from fvv.schemas.bundle import BundleFile, BundleManifest, ModelEntry, Parity
from fvv.system.fingerprint import file_sha256
from fvv.system.parallel import track
from fvv.system.regular import read_yaml

if TYPE_CHECKING:
    from fvv.training.checkpoint import TrainedModel

log = logging.getLogger(__name__)

RANGE_PATIENTS = 500
"""Training patients, at most, whose intensities tell later what is unusual: more cost minutes and widen it little."""


@dataclass(frozen=True, slots=True)
class ConvertResult:
    """What conversion made.

    Attributes:
        models: an entry for each fold, with its comparison of onnxruntime and PyTorch.
    """

    bundle: Path
    models: tuple[ModelEntry, ...]
    failures: tuple[Failure, ...] = ()

    def summary(self) -> str:
        """A table of the models and how onnxruntime compares with PyTorch, on whole volumes."""
        lines = [
            f"{'model':<14}{'fold':>5}{'epoch':>7}{'score':>8}{'patients':>10}{'max |d logit|':>15}"
            f"{'slab vs volume':>16}{'sign flips':>20}{'stroke Dice':>13}{'max |d FVV| mL':>16}{'decisions':>11}"
        ]
        for model in self.models:
            found = model.parity
            if found is not None:
                flips = f"{found.sign_flips} of {found.voxels:.3g}"
                lines.append(
                    f"{model.file:<14}{fold_title(model.fold or 0):>5}{(model.epoch or 0) + 1:>7}{model.score:>8.3f}"
                    f"{found.patients:>10}{found.largest_logit_difference:>15.1e}"
                    f"{found.largest_slab_difference:>16.1e}{flips:>20}{found.stroke_dice:>13.4f}"
                    f"{found.largest_fvv_difference_ml:>16.2g}{found.decisions_changed:>11}"
                )
        if any(model.fold == ALL_FOLDS for model in self.models):
            lines.append("trained on everybody in the split: only other patients can test it (`evaluate --external`)")
        return "\n".join([*lines, f"bundle: {self.bundle}"])


def convert(
    checkpoints: str | Path,
    store: str | Path,
    output: str | Path,
    config: ConvertConfig,
    *,
    name: str,
    chosen: Mapping[int, str | Path] | None = None,
    incomplete: bool = False,
    network: str | None = None,
    overwrite: bool = False,
) -> ConvertResult:
    """Convert one checkpoint per fold; the bundle is written whole, or not at all.

    A bundle of the same models in the output folder is brought up to date, and keeps its calibration and card.
    Files there that are not the bundle's stay in any case.

    Args:
        checkpoints: saved_models, as `train` wrote it; or one checkpoint, for a bundle of that model alone.
        store: prepared patients, to compare onnxruntime with PyTorch on.
        config: how much is compared, and what difference is accepted.
        chosen: checkpoints the user wants instead of a fold's best.
        incomplete: make a bundle of the folds that are trained, where some are not.
        network: "package.module:Name" of the network, where it is the user's own (`NetworkConfig.module`).
        overwrite: replace a bundle of other models, with all that was measured with it.

    Raises:
        ModelError: a fold without checkpoint, checkpoints that do not belong together or to the store or name another
            network than the user, or a difference over the tolerance.
        OutputExistsError: the output folder holds something other than a bundle, a bundle of other models, or another
            file with a name of the bundle's.
    """
    checkpoints, store, output = Path(checkpoints), Path(store), Path(output)
    cases = CaseStore.open(store)
    paths = _checkpoint_paths(
        checkpoints,
        cases.folds.n_folds,
        name,
        {fold: Path(path) for fold, path in (chosen or {}).items()},
        incomplete=incomplete,
    )
    models = _read_models(paths, cases, network)
    output = output.resolve() if output.is_symlink() else output  # The folder is replaced, not the link to it.
    with only_writer(output, replaced=True), atomic_write(output) as folder:
        names = bundle_names(model.fold for model in models)
        present = PresentBundle.find(output)
        if present is not None:
            runs = {model.fold: (model.run_id, model.epoch) for model in models}
            present.refuse_to_replace(names, runs, overwrite=overwrite)
        claim(folder, names)
        entries = tuple(_convert_model(model, cases, folder, config) for model in track(models, "convert", len(models)))
        images = golden_input(cases.profile)
        opened = OnnxEnsemble([folder / entry.file for entry in entries], cases.profile, device="cpu")
        write_golden(folder / GOLDEN_FILE, images, golden_output(opened, images))
        manifest = BundleManifest(
            software=f"fvv {__version__}",
            run_name=models[0].run_name,
            notice=config.notice,
            network=models[0].network.module or "",
            profile=cases.profile,
            intensity_range=_intensity_range(models, cases),
            postprocess=config.postprocess,
            models=entries,
            golden=BundleFile(file=GOLDEN_FILE, sha256=file_sha256(folder / GOLDEN_FILE)),
        )
        if present is not None:
            manifest = present.carry_over(folder, manifest, overwrite=overwrite)
        write_manifest(folder, manifest)
    return ConvertResult(output, entries)


def read_chosen_checkpoints(path: Path) -> dict[int, Path]:
    """Read which checkpoint stands for which fold.

    Args:
        path: YAML file of lines `fold: checkpoint`, such as `0: FVV/fold_0/best.ckpt`; a checkpoint's path is
            taken from the folder of this file.
    """
    content = read_yaml(path, what="the checkpoints chosen")
    if not isinstance(content, dict) or not content:
        raise ConfigError("expected lines 'fold: checkpoint'", file=path, hint="as 0: FVV/fold_0/best.ckpt")
    chosen: dict[int, Path] = {}
    for fold, checkpoint in content.items():
        if type(fold) is not int or fold < 0 or not isinstance(checkpoint, str) or not checkpoint.isprintable():
            raise ConfigError(f"expected 'fold: checkpoint', got {plain(f'{fold}: {checkpoint}')[:200]!r}", file=path)
        chosen[fold] = path.parent / checkpoint
    return chosen


def _checkpoint_paths(
    checkpoints: Path, n_folds: int, name: str, chosen: dict[int, Path], *, incomplete: bool
) -> dict[int | None, Path]:
    """The checkpoint of each fold; one that was named alone says itself which fold's it is."""
    if checkpoints.is_file():
        if chosen:
            raise ModelError("the input is one checkpoint, and --model or --models-file names others", file=checkpoints)
        return {None: checkpoints}
    if unknown := sorted(set(chosen) - set(range(n_folds))):
        raise ModelError(f"checkpoint given for fold {unknown[0]}; the split has folds 0 to {n_folds - 1}")
    paths: dict[int | None, Path] = {
        fold: chosen.get(fold, fold_folder(checkpoints, name, fold) / BEST) for fold in range(n_folds)
    }
    missing = [fold for fold, path in paths.items() if not os.path.lexists(path)]
    if incomplete and missing and len(missing) < n_folds:
        log.warning("no checkpoint for fold %s: a bundle of the others is made", ", ".join(map(str, missing)))
        return {fold: path for fold, path in paths.items() if fold not in missing}
    if missing:
        raise ModelError(
            f"no checkpoint for fold {', '.join(map(str, missing))}",
            file=paths[missing[0]],
            hint="train every fold first (`fvv train --all-folds`), name the run with --name, or take the folds that "
            "are there with --incomplete",
        )
    return paths


def _read_models(paths: Mapping[int | None, Path], store: CaseStore, network: str | None) -> tuple[TrainedModel, ...]:
    # Here and not above: torch takes seconds to load, and importing this module must not.
    from fvv.training.checkpoint import read_checkpoint  # noqa: PLC0415

    n_folds = store.folds.n_folds
    models = tuple(read_checkpoint(path, network) for path in paths.values())
    for asked, model in zip(paths, models, strict=True):
        fold = model.fold if asked is None else asked
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


def _convert_model(model: TrainedModel, store: CaseStore, folder: Path, config: ConvertConfig) -> ModelEntry:
    from fvv.training.export import export_onnx  # noqa: PLC0415

    file = folder / model_file(model.fold)
    export_onnx(model, file)
    return ModelEntry(
        file=file.name,
        sha256=file_sha256(file),
        fold=model.fold,
        run_id=model.run_id,
        epoch=model.epoch,
        score=model.score,
        parent=model.parent,
        trained_on=tuple(sorted({*model.training_person_ids, *model.training_image_ids})),
        selected_on=model.selection_ids,
        parity=_compare_with_torch(model, OnnxEnsemble([file], model.profile, device="cpu"), store, config),
    )


def _compare_with_torch(model: TrainedModel, opened: OnnxEnsemble, store: CaseStore, config: ConvertConfig) -> Parity:
    """Volumes against PyTorch on examinations that the fold's model was not trained on; here they test no skill."""
    from fvv.training.export import torch_logits  # noqa: PLC0415

    # A comparison without lesion would say little: those with most of it come first.
    role = Role.VALID if model.fold == ALL_FOLDS else Role.TEST
    patients = sorted(store.folds.participants(model.fold, role), key=lambda one: -(store.record(one).stroke_ml or 0.0))
    parity, changed = compare_forms(
        lambda padded: torch_logits(model, padded),
        lambda padded: opened.logits(padded)[0],
        map(store.read, patients[: config.check_patients]),
        profile=model.profile,
        decision=DecisionConfig(),
        visible_logit=config.postprocess.visible_logit,
    )
    differences = parity.largest_logit_difference, parity.largest_slab_difference
    if not np.max(differences) <= config.logit_tolerance:  # NaN is not.
        raise ModelError(
            f"fold {model.fold}: logits of onnxruntime and PyTorch differ by {differences[0]:.2g}, of slabs and "
            f"volumes by {differences[1]:.2g}; accepted is {config.logit_tolerance:.2g}",
            file=model.path,
        )
    if changed:
        patient, before, after = changed[0]
        raise ModelError(
            f"fold {model.fold}: onnxruntime changes the decision of {patient} from {before.value} to {after.value}",
            file=model.path,
        )
    return parity


def _intensity_range(models: Sequence[TrainedModel], store: CaseStore) -> dict[str, tuple[float, float]]:
    """What the patients look like that trained any of the models; `predict` warns about others."""
    trained = sorted({name for model in models for name in store.folds.participants(model.fold, Role.TRAIN)})
    looked_at = trained[:: -(-len(trained) // RANGE_PATIENTS)]
    return usual_range(usual_features(store.read(name)) for name in track(looked_at, "training cohort", len(looked_at)))
