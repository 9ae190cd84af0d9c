"""What a bundle finds in a folder of real heads: the decision, and where there is a reference, how far it is right.

    python benchmarks/real_heads.py DIR [-m BUNDLE] [--json FILE]

DIR holds examinations at any depth, folders with `b0.nii.gz` and `b1000.nii.gz`. One with `lesion.nii.gz` or
`stroke_roi.nii.gz` beside them is a stroke; one without counts as healthy, where all that is found is false, unless it
lies in a folder named `stroke`. No brain mask is read: the heads are taken as new ones.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fvv.config import PredictConfig, PreprocessConfig
from fvv.data import Case, Channel, DecisionState, Severity
from fvv.imaging.overlap import Overlap
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.io.case import read_case
from fvv.io.roi import read_roi
from fvv.io.shipped import models_to_use
from fvv.recipes.examine import Settings, examine

REFERENCES = ("lesion.nii.gz", "stroke_roi.nii.gz")
FALSE_AT_MOST_ML = 0.5


@dataclass(frozen=True, slots=True)
class Head:
    """One examination and what was found in it.

    Attributes:
        name: folder, from DIR.
        decision: the answer.
        predicted_ml: of stroke; None where the head is not assessable.
        overlap: with the reference, mL; None without a reference or an answer.
        healthy: no stroke is there to be found.
        warnings: codes of the findings that warn, or forbid an answer.
    """

    name: str
    decision: DecisionState
    predicted_ml: float | None
    overlap: Overlap | None
    healthy: bool
    warnings: tuple[str, ...]

    @property
    def false_ml(self) -> float | None:
        """Stroke that is none."""
        if self.healthy:
            return self.predicted_ml
        return None if self.overlap is None else self.overlap.false_positive

    @property
    def hit(self) -> str:
        """Dice and whether the stroke was found at all; "-" where that is no question."""
        if self.overlap is None:
            return "-"
        found = "hit" if self.overlap.true_positive else "missed"
        return f"{self.overlap.dice_coefficient:.3f} {found}"


def heads_in(folder: Path, bundle: ModelBundle, ensemble: OnnxEnsemble) -> Iterator[Head]:
    """Examine one head after another."""
    settings = Settings.of(bundle.profile, PredictConfig(), bundle.manifest)
    for b1000 in sorted(folder.rglob("b1000.nii.gz")):
        yield _head(b1000.parent, folder, ensemble, settings)


def _head(examination: Path, folder: Path, ensemble: OnnxEnsemble, settings: Settings) -> Head:
    read = read_case(examination, PreprocessConfig(), labelled=False)
    case = Case(read.examination_id, read.b0, read.b1000, b_value=read.b_value, notes=read.notes)
    found = examine(case, ensemble, settings).prediction
    reference = next((examination / name for name in REFERENCES if (examination / name).is_file()), None)
    overlap = None
    if reference is not None and found.stroke is not None:
        roi, _ = read_roi(reference, case.b1000, resample=False)
        overlap = Overlap.of_masks(roi.array, found.stroke).in_ml(case.b1000.voxel_volume_ml)
    name = examination.relative_to(folder)
    return Head(
        name=name.as_posix(),
        decision=found.decision.state,
        predicted_ml=found.volume_ml(Channel.STROKE),
        overlap=overlap,
        healthy=reference is None and "stroke" not in name.parts,
        warnings=tuple(reason.code for reason in found.decision.reasons if reason.severity is not Severity.NOTE),
    )


def table(heads: list[Head]) -> list[str]:
    """One line for each head, then the sums."""
    width = max(len(head.name) for head in heads)
    lines = [f"{'head':<{width}}  {'decision':<18}{'stroke mL':>10}{'false mL':>10}  {'Dice':<13}warnings"]
    for head in heads:
        volumes = "".join("         -" if ml is None else f"{ml:>10.2f}" for ml in (head.predicted_ml, head.false_ml))
        warnings = " ".join(head.warnings)
        lines.append(f"{head.name:<{width}}  {head.decision.value:<18}{volumes}  {head.hit:<13}{warnings}".rstrip())
    return [*lines, "", *_sums(heads)]


def record(head: Head) -> dict[str, object]:
    """What is known of a head, for JSON; null: not known, or no answer."""
    dice = None if head.overlap is None else head.overlap.dice_coefficient
    return {
        "head": head.name,
        "healthy": head.healthy,
        "decision": head.decision.value,
        "predicted_ml": head.predicted_ml,
        "false_positive_ml": head.false_ml,
        "dice": None if dice is None or math.isnan(dice) else dice,
        "hit": None if head.overlap is None else head.overlap.true_positive > 0,
        "warnings": list(head.warnings),
    }


def _sums(heads: list[Head]) -> Iterator[str]:
    healthy = [head for head in heads if head.healthy]
    answered = [head for head in healthy if head.predicted_ml is not None]
    if healthy:
        clean = sum(head.decision is DecisionState.NO_LESION_FOUND for head in answered)
        volumes = [head.predicted_ml or 0.0 for head in answered]
        yield (
            f"healthy: {len(healthy)} heads, {len(healthy) - len(answered)} not assessable, {clean} of {len(answered)} "
            f"no lesion found; false {sum(volumes):.2f} mL together, at most {max(volumes, default=0.0):.2f} mL, "
            f"{sum(volume > FALSE_AT_MOST_ML for volume in volumes)} over {FALSE_AT_MOST_ML:g} mL"
        )
    strokes = [head for head in heads if not head.healthy]
    known = [head.overlap for head in strokes if head.overlap is not None]
    if strokes:
        # 0 / 0 where nothing was known: no mean is given.
        dice = f"{sum(one.dice_coefficient for one in known) / len(known):.3f}" if known else "not defined"
        yield (
            f"strokes: {len(strokes)} heads, {len(strokes) - len(known)} without an answer or a reference, "
            f"{sum(one.true_positive > 0 for one in known)} of {len(known)} found, mean Dice {dice}, "
            f"false {sum(one.false_positive for one in known):.2f} mL together"
        )


def main(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="Folder of examinations, at any depth")
    parser.add_argument("-m", "--models", type=Path, help="Bundle (default: the model in the package)")
    parser.add_argument("--json", type=Path, help="Write the heads to this file too")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0 = all cores)")
    options = parser.parse_args(arguments)
    bundle = ModelBundle.open(models_to_use(options.models))
    ensemble = OnnxEnsemble.from_bundle(bundle, device="cpu", threads=options.threads)
    heads = list(heads_in(options.folder, bundle, ensemble))
    if not heads:
        print(f"no b1000.nii.gz in {options.folder}", file=sys.stderr)
        return 1
    print("\n".join(table(heads)))
    if options.json is not None:
        options.json.write_text(json.dumps([record(head) for head in heads], indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
