"""What a part of the ensemble, or 8 bits, costs in accuracy: measured once, kept in the bundle, said at prediction.

Out of fold this cannot be measured: a patient of one fold's test part trained all the other folds' models. It takes
labelled patients that no model has seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.analysis.metrics import dice_coefficient
from fvv.config import EvaluateConfig, Precision, PreprocessingProfile
from fvv.data import DecisionState, Failure, FusedSegmentation, PreparedCase
from fvv.errors import FvvError, InputError
from fvv.imaging.decision import decide
from fvv.imaging.fusion import visible_to_half
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import FAST_FOLDS, OnnxEnsemble
from fvv.io.bundle import Budget, ModelBundle, write_manifest
from fvv.io.case import read_case
from fvv.io.tables import failure_of
from fvv.recipes.held_out import shown_to_models, unseen_participants, with_drawn_brain
from fvv.recipes.segment import fuse_masks
from fvv.system.parallel import attempt, track

FOLDS_MEASURED = (1, FAST_FOLDS, 5)
"""Parts of the ensemble that are measured beside the whole."""
_Choice = tuple[int, Precision]


@dataclass(frozen=True, slots=True)
class BudgetResult:
    """What the parts of the ensemble cost.

    Attributes:
        bundle: the folder; its bundle.json holds the same now.
        budgets: a row for each part, the whole in float32 first.
        failures: patients that could not be measured.
    """

    bundle: Path
    budgets: tuple[Budget, ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """A table of the parts."""
        lines = [
            f"{'models':>7}{'precision':>11}{'patients':>10}{'not assessable':>16}{'stroke Dice':>13}"
            f"{'visible Dice':>14}{'FVV error mL':>14}{'decisions changed':>19}"
        ]
        lines += [
            f"{row.folds:>7}{row.precision:>11}{row.patients:>10}{row.not_assessable:>16}"
            f"{_rounded(row.stroke_dice, 3):>13}{_rounded(row.flair_visible_dice, 3):>14}"
            f"{_rounded(row.fvv_error_ml, 2):>14}{row.decisions_changed:>19}"
            for row in self.budgets
        ]
        return "\n".join([*lines, f"kept in {self.bundle}"])


@dataclass(frozen=True, slots=True)
class _Answer:
    """One patient as one part of the ensemble sees it, against what was drawn; NaN: not measured, or not defined."""

    state: DecisionState
    stroke_dice: float = math.nan
    flair_visible_dice: float = math.nan
    fvv_error_ml: float = math.nan


def measure_budgets(patients: Path, models: Path, config: EvaluateConfig) -> BudgetResult:
    """Measure every part of the ensemble that may be asked for, and write what was found into the bundle.

    Args:
        patients: labelled patients that no model has seen, a folder each, as for `prepare`.
        models: the bundle.
        config: masks, cut-off, device.

    Raises:
        ConfigError: masks come from an outside tool whose command was not given.
        ModelError: a model has seen one of the patients, or does not say whom it has seen.
        InputError: no patient could be measured.
    """
    bundle = ModelBundle.open(models)
    config = bundle.completed(config)
    profile = config.preprocess.applied_to(bundle.profile)
    participants, failures = unseen_participants(patients, bundle, config)
    ensembles = {
        precision: OnnxEnsemble.from_bundle(
            bundle, precision=precision, device=config.device, threads=config.threads, chunk_slices=config.chunk_slices
        )
        for precision in bundle.precisions
    }
    answers: list[dict[_Choice, _Answer]] = []
    for participant in track(participants, "measure", len(participants)):
        name = participant.participant
        answer = attempt(_answers, patients / name, profile, ensembles, config)
        if isinstance(answer, FvvError):
            failures.append(failure_of(name, answer))
        else:
            answers.append(answer)
    if not answers:
        raise InputError(f"no patient could be measured; the first: {failures[0].reason}", file=patients)
    budgets = tuple(_budget(choice, answers, whole=(len(bundle.models), bundle.precisions[0])) for choice in answers[0])
    write_manifest(models, bundle.manifest.model_copy(update={"budgets": budgets}))
    return BudgetResult(models, budgets, tuple(failures))


def _answers(
    folder: Path, profile: PreprocessingProfile, ensembles: dict[Precision, OnnxEnsemble], config: EvaluateConfig
) -> dict[_Choice, _Answer]:
    """What each part of the ensemble says: every model runs once."""
    case = read_case(folder, config.preprocess, labelled=True)
    prepared = preprocess_case(shown_to_models(case, profile, config), profile)
    drawn = with_drawn_brain(case, prepared, profile, config)
    answers: dict[_Choice, _Answer] = {}
    for precision, ensemble in ensembles.items():
        masks = np.moveaxis(ensemble.masks(network_input(prepared, ensemble.profile.context_slices)), 2, 4)
        whole = len(ensemble)
        for folds in (whole, *(n for n in FOLDS_MEASURED if n < whole)):
            fused = fuse_masks(masks[:folds], prepared, config.postprocess)
            answers[folds, precision] = _judge(drawn, prepared, fused, config)
    return answers


def _judge(drawn: PreparedCase, shown: PreparedCase, fused: FusedSegmentation, config: EvaluateConfig) -> _Answer:
    """Where there is no answer there is no volume either: its 0 mL would be an error, or a hit, of nobody's."""
    if drawn.stroke is None or drawn.flair_visible is None:
        raise InputError("no ROI was drawn", patient=drawn.patient)
    state = decide(fused, shown.voxel_volume_ml, shown.findings, config.decision).state
    if state is DecisionState.NOT_ASSESSABLE:
        return _Answer(state)
    visible = visible_to_half(fused.flair_visible_votes, fused.n_models)
    drawn_voxels = int(drawn.flair_visible.sum())
    return _Answer(
        state,
        stroke_dice=dice_coefficient(drawn.stroke, fused.stroke),
        flair_visible_dice=dice_coefficient(drawn.flair_visible, visible),
        fvv_error_ml=abs(fused.flair_visible_voxels - drawn_voxels) * drawn.voxel_volume_ml,
    )


def _budget(choice: _Choice, answers: list[dict[_Choice, _Answer]], *, whole: _Choice) -> Budget:
    rows = [answer[choice] for answer in answers]
    return Budget(
        folds=choice[0],
        precision=choice[1],
        patients=len(rows),
        stroke_dice=_mean([row.stroke_dice for row in rows]),
        flair_visible_dice=_mean([row.flair_visible_dice for row in rows]),
        fvv_error_ml=_mean([row.fvv_error_ml for row in rows]),
        decisions_changed=sum(answer[choice].state is not answer[whole].state for answer in answers),
        not_assessable=sum(row.state is DecisionState.NOT_ASSESSABLE for row in rows),
    )


def _mean(values: list[float]) -> float | None:
    """Of the patients for whom it is defined (no Dice where neither mask holds a voxel); None where of nobody."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else None


def _rounded(value: float | None, decimals: int) -> str:
    return "n/a" if value is None else f"{value:.{decimals}f}"
