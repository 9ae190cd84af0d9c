"""What each post-processing option changes, measured on labelled patients: prints a table.

    python experiments/postprocess.py BUNDLE COHORT [--own-masks] [--threads 2]

BUNDLE is a folder of models, COHORT a folder of labelled patients, as for `fvv prepare`, that none of them has seen: a
patient that one was trained on ends the run. Every patient is segmented once; the options are then applied to the same
votes. Those in whom the models mark hardly any brain are not assessable: listed, and in no number. To take a choice
over, set `convert.postprocess` (it is then stated in the bundle), or `predict.postprocess` for one run.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fvv.analysis import statistics
from fvv.analysis.agreement import rank_correlation
from fvv.analysis.metrics import dice_coefficient
from fvv.config import EvaluateConfig, PostprocessConfig, PreprocessingProfile
from fvv.data import Case, DecisionState, FusedSegmentation, Participant, PreparedCase, Severity
from fvv.errors import FvvError, InputError
from fvv.imaging.decision import decide
from fvv.imaging.fusion import visible_to_half
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.io.case import read_case
from fvv.io.manifest import failure_of
from fvv.recipes.held_out import shown_to_models, unseen_participants, with_drawn_brain
from fvv.recipes.segment import fuse_masks

OPTIONS = {
    "off": PostprocessConfig(),
    **{f"ADC gate {gate:g}": PostprocessConfig(adc_gate=gate) for gate in (0.7, 0.8, 0.85, 0.9, 1.0)},
    **{f"at least {size:g} mm3": PostprocessConfig(minimum_lesion_mm3=size) for size in (30, 100, 300)},
    "ADC gate 0.9, 100 mm3": PostprocessConfig(adc_gate=0.9, minimum_lesion_mm3=100),
}


@dataclass(frozen=True)
class Found:
    """One patient under one option; volumes in mL."""

    overlap: float
    drawn: float
    marked: float
    visible_dice: float
    drawn_fvv: float
    fvv: float


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("cohort", type=Path)
    parser.add_argument("--own-masks", action="store_true", help="show the patients without their brain mask files")
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args(arguments)
    bundle = ModelBundle.open(options.bundle)
    config = bundle.completed(EvaluateConfig(own_masks=options.own_masks, threads=options.threads))
    profile = config.preprocess.applied_to(bundle.profile)
    participants, failures = unseen_participants(options.cohort, bundle, config)
    ensemble = OnnxEnsemble.from_bundle(bundle, threads=config.threads)
    rows: dict[str, list[Found]] = {name: [] for name in OPTIONS}
    labels: list[bool] = []
    for participant in participants:
        name = participant.participant
        try:
            case = read_case(options.cohort / name, config.preprocess, labelled=True)
            found = under_every_option(case, profile, ensemble, config)
        except FvvError as error:
            failures.append(failure_of(name, error))
            continue
        for option, one in found.items():
            rows[option].append(one)
        labels.append(mismatch_of(participant, found["off"]))
    for failure in failures:
        print(f"left out: {failure.reason}")
    if not labels:
        raise InputError("no patient could be measured", file=options.cohort)
    show(rows, np.array(labels))


def under_every_option(
    case: Case, profile: PreprocessingProfile, ensemble: OnnxEnsemble, config: EvaluateConfig
) -> dict[str, Found]:
    """One patient under each option, of one segmentation.

    Raises:
        InputError: the models mark too little brain for an answer: 0 mL of stroke would be no measurement.
    """
    shown = preprocess_case(shown_to_models(case, profile, config), profile)
    drawn = with_drawn_brain(case, shown, profile, config)
    masks = np.moveaxis(ensemble.masks(network_input(shown, profile.context_slices)), 2, 4)
    fused = {option: fuse_masks(masks, shown, postprocess) for option, postprocess in OPTIONS.items()}
    # The options change the stroke, not the brain: no answer under one of them is none under any.
    decision = decide(fused["off"], shown.voxel_volume_ml, shown.findings, config.decision)
    if decision.state is DecisionState.NOT_ASSESSABLE:
        why = "; ".join(one.message for one in decision.reasons if one.severity is Severity.NOT_ASSESSABLE)
        raise InputError(f"not assessable: {why}", patient=case.patient)
    return {option: measure(drawn, one) for option, one in fused.items()}


def measure(drawn: PreparedCase, fused: FusedSegmentation) -> Found:
    assert drawn.stroke is not None
    assert drawn.flair_visible is not None
    volume = drawn.voxel_volume_ml
    return Found(
        overlap=float((fused.stroke & drawn.stroke).sum()) * volume,
        drawn=float(drawn.stroke.sum()) * volume,
        marked=float(fused.stroke.sum()) * volume,
        visible_dice=dice_coefficient(drawn.flair_visible, visible_to_half(fused.flair_visible_votes, fused.n_models)),
        drawn_fvv=float(drawn.flair_visible.sum()) * volume,
        fvv=fused.flair_visible_voxels * volume,
    )


def mismatch_of(participant: Participant, found: Found) -> bool:
    """The readers' label, else less than a fifth of the lesion FLAIR-visible."""
    known = participant.dwi_flair_mismatch
    return found.drawn_fvv < 0.2 * found.drawn if known is None else known


def show(rows: dict[str, list[Found]], mismatch: np.ndarray) -> None:
    print(
        f"{len(mismatch)} patients, {sum(one.drawn > 0 for one in rows['off'])} with a lesion; Dice on the working grid"
    )
    print(
        f"{'option':<24}{'Dice pooled':>12}{'mean':>8}{'visible mean':>14}{'FVV Spearman':>14}{'AUC':>8}"
        f"{'FVV error mL':>14}{'false mL':>10}{'lost mL':>9}{'marked, none drawn':>20}"
    )
    for option, found in rows.items():
        ill = np.array([one.drawn > 0 for one in found])
        with_lesion = [one for one in found if one.drawn]
        drawn_fvv, fvv = (np.array([getattr(one, key) for one in found]) for key in ("drawn_fvv", "fvv"))
        pooled = 2 * sum(one.overlap for one in found) / sum(one.drawn + one.marked for one in found)
        mean = np.mean([2 * one.overlap / (one.drawn + one.marked) for one in with_lesion])
        visible = np.nanmean([one.visible_dice for one in with_lesion])
        area = statistics.delong_interval(fvv[ill], mismatch[ill]).value
        false = np.mean([one.marked - one.overlap for one in found])
        lost = np.mean([one.drawn - one.overlap for one in with_lesion])
        alarms = f"{sum(one.marked > 0 for one in found if not one.drawn)} of {int((~ill).sum())}"
        print(
            f"{option:<24}{pooled:>12.4f}{mean:>8.4f}{visible:>14.4f}{rank_correlation(drawn_fvv, fvv).value:>14.3f}"
            f"{area:>8.3f}{np.mean(np.abs(fvv - drawn_fvv)):>14.3f}{false:>10.3f}{lost:>9.3f}{alarms:>20}"
        )


if __name__ == "__main__":
    main()
