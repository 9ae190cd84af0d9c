"""nnU-Net v2 (doi 10.1038/s41592-020-01008-z) on a cohort of fvv: its own pipeline, our folds, our measures, on a CPU.

    python experiments/peers/nnunet.py COHORT STORE -o FOLDER --configuration 2d --budget 3600

exports the cohort as `fvv export --nnunet` does, lets nnU-Net plan, preprocess and train the first fold for about so
many seconds of processor time, and predicts that fold's test examinations with its final weights. FOLDER/CONFIGURATION
then holds an evaluation as `fvv evaluate` writes it, report.html included. nnU-Net predicts no brain: the reference
brain stands for it, and numbers of the brain are not its own. Its default trainer does not fix seeds.

Three things differ from nnU-Net's defaults: the numbers of epochs and of iterations follow from the budget (its
learning rate falls to 0 over them as usual); one process does everything, so that its time can be measured; and
predictions are not mirrored and averaged, as those of the other peers are not either.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fvv.analysis.methods import software_versions
from fvv.analysis.patient import measure_patient
from fvv.config import ComputeConfig, EvaluateConfig, PrepareConfig
from fvv.data import Channel, Decision, Finding, Role, Severity, Volume
from fvv.errors import InputError
from fvv.imaging.decision import answer
from fvv.imaging.geometry import restore_to_native, to_working_grid
from fvv.imaging.lesion_signal import relative_dwi_iqr, relative_lesion_adc
from fvv.io.evaluation import EvaluationFolder, PatientFiles
from fvv.io.store import CaseStore
from fvv.recipes.publish import EvaluateResult, cohort_kind, publish
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import OUT_OF_FOLD, Measured
from fvv.stages.export import SPLITS, STROKE_LABEL, VISIBLE_LABEL, export_nnunet

NUMBER, NAME = 501, "Dataset501_FVV"
CONFIGURATIONS = ("2d", "3d_fullres")
FOLD = 0
VALIDATION_SHARE = 5
"""Iterations of training for one of nnU-Net's online validation, as by default (250 and 50)."""
_FOLDERS = ("raw", "preprocessed", "results")


def enter(folder: Path) -> None:
    """Point nnU-Net to its folders, before it is imported, and let one process do everything."""
    os.environ |= {f"nnUNet_{name}": str(folder.resolve() / name) for name in _FOLDERS}
    os.environ |= {"nnUNet_n_proc_DA": "0", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    os.environ |= {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}  # Its checkpoints, made here, hold more than weights.


def plan(cohort: Path, store: Path, folder: Path, configuration: str) -> None:
    """Export, fingerprint, plan and preprocess; what is there is kept."""
    enter(folder)
    from nnunetv2.experiment_planning import plan_and_preprocess_api as api  # noqa: PLC0415

    if not (folder / "raw" / NAME / "dataset.json").exists():
        export_nnunet(cohort, store, folder / "raw" / NAME, PrepareConfig(compute=ComputeConfig(workers=1)))
    target = folder / "preprocessed" / NAME
    os.environ |= {"nnUNet_n_proc_DA": "1"}  # The planner takes it for a number of threads.
    if not (target / "dataset_fingerprint.json").exists():
        api.extract_fingerprints([NUMBER], num_processes=1)
    if not (target / "nnUNetPlans.json").exists():
        api.plan_experiments([NUMBER])
    done = target / f"{configuration}.done"
    if not done.exists():
        api.preprocess([NUMBER], configurations=(configuration,), num_processes=(1,))
        shutil.copy(folder / "raw" / NAME / SPLITS, target / SPLITS)
        done.touch()


def _trainer(folder: Path, configuration: str, epochs: int, iterations: int) -> Any:
    enter(folder)
    import torch  # noqa: PLC0415
    from nnunetv2.run.run_training import get_trainer_from_args  # noqa: PLC0415

    torch.set_num_threads(1)
    _fix_schedule()
    trainer = get_trainer_from_args(str(NUMBER), configuration, FOLD, device=torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
    trainer.num_val_iterations_per_epoch = max(1, iterations // VALIDATION_SHARE)
    trainer.initialize()
    return trainer


def _fix_schedule() -> None:
    """The schedule of this nnU-Net gives its base class an argument that PyTorch no longer takes: without it."""
    from nnunetv2.training.nnUNetTrainer import nnUNetTrainer as module  # noqa: N813, PLC0415
    from torch.optim.lr_scheduler import LRScheduler  # noqa: PLC0415

    class Schedule(module.PolyLRScheduler):  # type: ignore[misc]
        def __init__(self, optimizer: Any, initial_lr: float, max_steps: int, exponent: float = 0.9) -> None:
            self.optimizer, self.initial_lr, self.max_steps = optimizer, initial_lr, max_steps
            self.exponent, self.ctr = exponent, 0
            LRScheduler.__init__(self, optimizer)

    module.PolyLRScheduler = Schedule


def seconds_an_iteration(folder: Path, configuration: str, timed: int = 3) -> float:
    """Processor time of a training iteration, augmentation included; the best of some."""
    trainer = _trainer(folder, configuration, 1, 1)
    trainer.on_train_start()
    trainer.network.train()
    times = []
    for _ in range(timed):
        started = time.process_time()
        trainer.train_step(next(trainer.dataloader_train))
        times.append(time.process_time() - started)
    return min(times)


def train(folder: Path, configuration: str, epochs: int, iterations: int) -> None:
    """Train the fold, from its start."""
    _trainer(folder, configuration, epochs, iterations).run_training()


def predict(folder: Path, configuration: str) -> int:
    """Predict the fold's test examinations; gives their number."""
    trainer = _trainer(folder, configuration, 1, 1)
    trainer.load_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    trainer.inference_allowed_mirroring_axes = None
    trainer.perform_actual_validation(save_probabilities=False)
    return len(list(predictions(folder, configuration).glob("*.nii.gz")))


def predictions(folder: Path, configuration: str) -> Path:
    """Where nnU-Net leaves its label maps."""
    trainer = f"nnUNetTrainer__nnUNetPlans__{configuration}"
    return folder / "results" / NAME / trainer / f"fold_{FOLD}" / "validation"


def measured(store: CaseStore, name: str, labels: np.ndarray, config: EvaluateConfig) -> PatientResult:
    """One examination as `fvv evaluate` measures it.

    Args:
        labels: (i, j, k) label map of nnU-Net on the native grid.
    """
    prepared = store.read(name)
    grid, native = prepared.grid, Volume(labels, prepared.grid.native_affine)
    reference = {channel: restore_to_native(mask, grid) for channel, mask in prepared.masks.items()}
    predicted = {
        Channel.BRAIN: reference[Channel.BRAIN],
        Channel.STROKE: np.isin(labels, (STROKE_LABEL, VISIBLE_LABEL)),
        Channel.FLAIR_VISIBLE: labels == VISIBLE_LABEL,
    }
    voxel_ml = float(np.prod(native.spacing_mm)) / 1000.0
    predicted_ml = {channel: float(mask.sum()) * voxel_ml for channel, mask in predicted.items()}
    state, code = answer(predicted_ml[Channel.STROKE], predicted_ml[Channel.FLAIR_VISIBLE], config.decision)
    result = measure_patient(
        store.record(name).participant,
        FOLD,
        Decision(state, config.decision.cutoff_ml, (Finding(code, "nnU-Net", Severity.NOTE),)),
        reference=reference,
        predicted=predicted,
        spacing_mm=native.spacing_mm,
        reference_ml={channel: float(m.sum()) * grid.voxel_volume_ml for channel, m in prepared.masks.items()},
        predicted_ml=predicted_ml,
    )
    # The plain numbers beside which its FLAIR-visible volume is judged.
    stroke, brain = to_working_grid(predicted[Channel.STROKE], grid), prepared.brain
    signals = {"relative_dwi_iqr": relative_dwi_iqr, "relative_adc": relative_lesion_adc}
    return result.model_copy(update={name: of(prepared, stroke & brain, brain) for name, of in signals.items()})


def score(store_path: Path, label_maps: Path, output: Path, what: str, config: EvaluateConfig) -> EvaluateResult:
    """Measure every test examination of the fold, and write an evaluation.

    Raises:
        InputError: one has no label map: without it, another peer would be tested on other examinations.
    """
    store = CaseStore.open(store_path)
    folder, results = EvaluationFolder(output), []
    for name in sorted(store.folds.participants(FOLD, Role.TEST)):
        file = label_maps / f"{name}.nii.gz"
        if not file.exists():
            raise InputError("nnU-Net left no label map", examination_id=name, file=file)
        image = nib.load(file)
        result = measured(store, name, np.asarray(image.dataobj).astype(np.uint8), config)
        folder.write_patient("", result, PatientFiles(image.affine, None))
        results.append(result)
    simulated = (store.record(one.examination_id).participant.simulated for one in results)
    about = Measured(
        evaluation=OUT_OF_FOLD,
        counts={"evaluated": len(results), "not assessable": 0, "failed": 0},
        run={"models": what, "software": software_versions()},
        models_sha256={},
        sources={one.examination_id: "" for one in results},
        cohort=cohort_kind(simulated),
        failures=(),
    )
    return publish(folder, about, results, config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cohort", type=Path, help="labelled patients")
    parser.add_argument("store", type=Path, help="what `fvv prepare` made of them: its folds are used")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("--configuration", choices=CONFIGURATIONS, default="2d")
    parser.add_argument("--budget", type=float, required=True, help="training, seconds of processor time")
    parser.add_argument("--epochs", type=int, default=30)
    options = parser.parse_args()
    work, configuration = options.output / "nnunet", options.configuration
    plan(options.cohort, options.store, work, configuration)
    iterations = iterations_of(seconds_an_iteration(work, configuration), options.budget / options.epochs)
    train(work, configuration, options.epochs, iterations)
    predict(work, configuration)
    name = f"nnU-Net v2 {configuration}"
    config = EvaluateConfig(heatmaps=False)
    found = score(options.store, predictions(work, configuration), options.output / configuration, name, config)
    print(found.summary())


def iterations_of(seconds: float, epoch_s: float) -> int:
    """Training iterations of an epoch that takes so many seconds; those of validation are not counted."""
    return max(1, round(epoch_s / seconds))


if __name__ == "__main__":
    main()
