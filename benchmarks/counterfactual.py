"""What a bundle's answer rests on: a stroke with its T2 unchanged, AUC within sizes, a head stored in all ways.

    python benchmarks/counterfactual.py FOLDER [-m BUNDLE] [-c FILE] [--strokes 60] [--golden CASE ...] [--ways 48]

1. *T2 unchanged*: every simulated stroke (`FOLDER/as_it_is`) has a twin (`FOLDER/t2_unchanged`) of the same seed whose
   T2 is that of healthy tissue: same head, place, extent and ADC, nothing to see on FLAIR. A twin is a mismatch however
   large it is. In a real head (`--golden`, a folder with b0, b1000, stroke_roi) the b0 of the mirrored side is written
   into the stroke; b1000 keeps the stroke's own ADC.
2. *AUC within sizes*: of the predicted FVV for the label of the simulated reader, beside the AUC of the predicted and
   of the reference volume alone (a larger stroke is less likely a mismatch). What an answer adds to size is what is
   left within a group of size.
3. *Storage*: one head in the 48 ways in which the axes of an image can be stored gives one answer.

No brain mask is read: heads are taken as new ones. FOLDER keeps images and answers; the same command resumes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from fvv.analysis.statistics import Bootstrap
from fvv.analysis.tables import counted, with_interval
from fvv.arrays import BoolArray
from fvv.config import PredictConfig, PreprocessConfig, SimulateConfig, load_config
from fvv.data import Case, Channel, DecisionState, Volume
from fvv.imaging.adc import adc_map
from fvv.imaging.brain import robust_mask
from fvv.imaging.decision import format_ml
from fvv.imaging.overlap import Overlap
from fvv.inference.ensemble import OnnxEnsemble
from fvv.io.bundle import ModelBundle
from fvv.io.case import read_case
from fvv.io.shipped import models_to_use
from fvv.protocol import TARGET_B
from fvv.recipes.examine import Settings, examine
from fvv.schemas.summary import Estimate, Share
from fvv.simulator.files import read_simulation
from fvv.stages.simulate import simulate
from fvv.system.fingerprint import fingerprint

SETTINGS = Path(__file__).resolve().parents[1] / "configs" / "model.yaml"
LARGE_ML = 70.0
FVV_AT_MOST_ML = 0.5
"""Bound of a large core, and the published cut-off of the FVV."""
SIZES_ML = {
    "all": (0.0, math.inf),
    "under 10 mL": (0.0, 10.0),
    "10 to 70 mL": (10.0, LARGE_ML),
    "70 mL or more": (LARGE_ML, math.inf),
}
UNCHANGED = 1e-6
"""Relative gain of T2 that is none; the simulator draws from a log-uniform range, which has no 0."""
RIM_VOXELS = 0.5
CSF_ADC = 1.2e-3
"""mm^2/s; mirrored voxels above are CSF, which the stroke's tissue is not (chosen here)."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What was said of one examination.

    Attributes:
        name: of the examination.
        group: "as it is" or "T2 unchanged".
        reference_ml: of the stroke.
        predicted_ml, fvv_ml: None where it is not assessable.
        found: one voxel or more of the reference is predicted.
        mismatch: the reader's label.
        attempt: of the simulator's draws of a stroke; twins of different attempts are different strokes.
    """

    name: str
    group: str
    reference_ml: float
    predicted_ml: float | None
    fvv_ml: float | None
    decision: str
    found: bool | None
    mismatch: bool | None
    attempt: int | None = None

    @property
    def likely(self) -> bool:
        """Whether the answer is "mismatch likely"."""
        return self.decision == DecisionState.MISMATCH_LIKELY.value


@dataclass(frozen=True, slots=True)
class Labelled:
    """A case with its stroke, the reader's label and the simulator's attempt, where these are known."""

    case: Case
    mismatch: bool | None = None
    attempt: int | None = None


class Examiner:
    """Examines cases with one bundle and remembers the answers in a file, one JSON line each."""

    def __init__(self, models: Path | None, folder: Path, threads: int) -> None:
        bundle = ModelBundle.open(models_to_use(models))
        self._ensemble = OnnxEnsemble.from_bundle(bundle, device="cpu", threads=threads)
        self._settings = Settings.of(bundle.profile, PredictConfig(), bundle.manifest)
        key = fingerprint(models=bundle.manifest.models_sha256, settings=bundle.manifest.postprocess)
        self._file = folder / f"answers-{key[:12]}.jsonl"
        lines = self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else []
        self._known = {(one.group, one.name): one for one in (Answer(**json.loads(line)) for line in lines)}

    def answer(self, group: str, name: str, read: Callable[[], Labelled]) -> Answer:
        """The answer as remembered, or of the case that `read` gives."""
        if (group, name) not in self._known:
            self._known[group, name] = one = self._examine(group, name, read())
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(one)) + "\n")
        return self._known[group, name]

    def _examine(self, group: str, name: str, labelled: Labelled) -> Answer:
        case = labelled.case
        assert case.stroke_roi is not None
        stroke, voxel_ml = case.stroke_roi.array, case.b1000.voxel_volume_ml
        new = replace(case, mask=None, stroke_roi=None, flair_visible_roi=None)
        found = examine(new, self._ensemble, self._settings).prediction
        hit = None if found.stroke is None else bool(Overlap.of_masks(stroke, found.stroke).true_positive)
        return Answer(
            name,
            group,
            float(stroke.sum()) * voxel_ml,
            found.volume_ml(Channel.STROKE),
            found.fvv_ml,
            found.decision.state.value,
            hit,
            labelled.mismatch,
            labelled.attempt,
        )


def simulated(examiner: Examiner, folder: Path, settings: SimulateConfig, strokes: int, seed: int) -> list[Answer]:
    """Answers of simulated strokes as they are, and of their twins without a change of T2."""
    changes = {"cases": strokes, "seed": seed, "stroke_free_share": 0.0, "follow_up_share": 0.0}
    answers = []
    for group, more in (("as it is", {}), ("T2 unchanged", {"t2_amplitude_range": (UNCHANGED, UNCHANGED)})):
        cohort = folder / group.lower().replace(" ", "_")
        made = simulate(cohort, settings.model_copy(update={**changes, **more}))
        folders = [cohort / one.case.participant_id for one in made.cases[:strokes]]  # It may hold more.
        answers += [examiner.answer(group, one.name, partial(_simulated, one)) for one in folders]
    return answers


def _simulated(folder: Path) -> Labelled:
    about = read_simulation(folder).case
    return Labelled(read_case(folder, PreprocessConfig(), labelled=True), about.dwi_flair_mismatch, about.attempt)


def real(examiner: Examiner, folder: Path) -> list[Answer]:
    """Answers of a real stroke as it is and with the other side's b0."""

    case = read_case(folder, PreprocessConfig(), labelled=None)
    return [
        examiner.answer("as it is", folder.name, lambda: Labelled(case)),
        examiner.answer("T2 unchanged", folder.name, lambda: Labelled(with_healthy_b0(case))),
    ]


def with_healthy_b0(case: Case) -> Case:
    """The same head, its stroke with the b0 of the mirrored side; b1000 follows from the stroke's own ADC.

    Signal is b0 e^(-b ADC) (doi 10.1063/1.1695690): with another b0 and the same ADC, b1000 changes by the same factor.
    Mirrored CSF, or stroke, gives the median b0 of the mirrored tissue. The rim is graded over one voxel.
    """
    assert case.stroke_roi is not None
    b0, b1000, stroke = case.b0.array, case.b1000.array, case.stroke_roi.array
    axis = [code in "LR" for code in nib.aff2axcodes(case.b0.affine)].index(True)
    brain = robust_mask(b0, b1000)
    columns = np.flatnonzero(brain.any(axis=tuple({0, 1, 2} - {axis})))
    opposite = np.clip(columns[0] + columns[-1] - np.arange(b0.shape[axis]), 0, b0.shape[axis] - 1)
    there, other_stroke, adc = (
        np.take(array, opposite, axis) for array in (b0, stroke, adc_map(b0, b1000, case.b_value or TARGET_B))
    )
    tissue = ~other_stroke & (there > 0) & (np.nan_to_num(adc, nan=np.inf) < CSF_ADC)
    if not (tissue & stroke).any():
        raise SystemExit(f"{case.examination_id}: no tissue lies opposite the stroke")
    healthy = np.where(tissue, there, np.median(there[tissue & stroke]))
    share = np.maximum(ndimage.gaussian_filter(stroke.astype(float), RIM_VOXELS), stroke)
    wanted = (1.0 - share) * b0 + share * healthy
    factor = np.divide(wanted, b0, out=np.ones_like(b0), where=b0 > 0)
    return replace(case, b0=Volume(wanted, case.b0.affine), b1000=Volume(b1000 * factor, case.b1000.affine))


def stored_in_all_ways(examiner: Examiner, folder: Path, most: int) -> list[Answer]:
    """Answers of one head stored along each order and direction of the axes."""
    case = read_case(folder, PreprocessConfig(), labelled=None)
    ways = list(itertools.product(itertools.permutations(range(3)), itertools.product((1, -1), repeat=3)))[:most]
    answers = []
    for axes, signs in ways:
        code = "".join(nib.orientations.ornt2axcodes(list(zip(axes, signs, strict=True))))
        turned = partial(stored_as, case, axes, signs)
        answers.append(examiner.answer(f"stored {code}", folder.name, lambda turned=turned: Labelled(turned())))
    return answers


def stored_as(case: Case, axes: Sequence[int], signs: Sequence[int]) -> Case:
    """The same head with its arrays' axes in another order and direction; every affine goes with its array."""
    way = np.array([axes, signs]).T

    def turned(volume: Volume | None) -> Volume | None:
        if volume is None:
            return None
        array = nib.orientations.apply_orientation(volume.array, way)
        affine = volume.affine @ nib.orientations.inv_ornt_aff(way, volume.array.shape)
        return Volume(np.ascontiguousarray(array), affine)

    names = ("b0", "b1000", "stroke_roi", "flair_visible_roi", "mask")
    return replace(case, **{name: turned(getattr(case, name)) for name in names})


@dataclass(frozen=True, slots=True)
class Unchanged:
    """Strokes of one size without a change of T2: all are mismatches."""

    size: str
    strokes: int
    found: Share
    fvv_low: Share
    likely: Share
    fvv_median_ml: float
    fvv_largest_ml: float


@dataclass(frozen=True, slots=True)
class WithinSize:
    """AUC for the reader's label among strokes of one size: of the FVV, and of the two volumes alone."""

    size: str
    mismatch: int
    no_mismatch: int
    fvv: Estimate
    predicted: Estimate
    reference: Estimate


def same_strokes(answers: Iterable[Answer]) -> list[Answer]:
    """The twins that are the same stroke: the simulator draws again where T2 alone made a stroke visible."""
    answers = list(answers)
    attempts = {one.name: one.attempt for one in answers if one.group == "as it is"}
    return [one for one in answers if one.group == "T2 unchanged" and attempts.get(one.name) == one.attempt]


def _of_size(answers: Iterable[Answer]) -> Iterator[tuple[str, list[Answer]]]:
    """Groups of those that could be assessed, by the reference volume."""
    assessed = [one for one in answers if one.fvv_ml is not None]
    for size, (low, high) in SIZES_ML.items():
        yield size, [one for one in assessed if low <= one.reference_ml < high]


def unchanged_by_size(answers: Iterable[Answer], bootstrap: Bootstrap) -> list[Unchanged]:
    """What is said of strokes whose T2 has not changed."""
    rows = []
    for size, group in _of_size(answers):
        fvv_ml = np.array([one.fvv_ml for one in group], dtype=float)
        names = np.array([one.name for one in group])
        shares = [
            bootstrap.share(np.array(values, dtype=bool), names)
            for values in ([one.found for one in group], fvv_ml < FVV_AT_MOST_ML, [one.likely for one in group])
        ]
        middle, largest = (float(np.median(fvv_ml)), float(fvv_ml.max())) if group else (math.nan, math.nan)
        rows.append(Unchanged(size, len(group), *shares, middle, largest))
    return rows


def auc_by_size(answers: Iterable[Answer], bootstrap: Bootstrap) -> list[WithinSize]:
    """AUC of the FVV and of the volumes alone, as measured and within groups of size."""
    rows = []
    for size, group in _of_size(one for one in answers if one.group == "as it is" and one.mismatch is not None):
        mismatch, names = np.array([one.mismatch for one in group], dtype=bool), np.array([one.name for one in group])

        def area(values: Sequence[float | None], label: BoolArray = mismatch, who: np.ndarray = names) -> Estimate:
            return bootstrap.auc(np.array(values, dtype=float), label, who)

        areas = (
            [one.fvv_ml for one in group],
            [one.predicted_ml for one in group],
            [one.reference_ml for one in group],
        )
        rows.append(WithinSize(size, int(mismatch.sum()), int((~mismatch).sum()), *map(area, areas)))
    return rows


def largest_difference_ml(answers: Sequence[Answer]) -> float:
    """Between the volumes of one head stored in several ways; NaN where some could be assessed and others not."""
    columns = [[one.predicted_ml for one in answers], [one.fvv_ml for one in answers]]
    spreads: list[float] = []
    for column in columns:
        known = [value for value in column if value is not None]
        if len(known) not in (0, len(column)):
            return math.nan
        spreads.append(max(known, default=0.0) - min(known, default=0.0))
    return max(spreads)


def report(answers: Mapping[str, list[Answer]]) -> tuple[list[str], dict[str, object]]:
    """The lines to print, and the same for JSON."""
    bootstrap = Bootstrap(2000, np.random.default_rng(0))
    lines: list[str] = []
    content: dict[str, object] = {}
    if cohort := answers["simulated"]:
        twins = same_strokes(cohort)
        unchanged, areas = unchanged_by_size(twins, bootstrap), auc_by_size(cohort, bootstrap)
        content |= {"t2_unchanged": [_plain(row) for row in unchanged], "auc": [_plain(row) for row in areas]}
        lines.append(
            f"T2 unchanged ({len(twins)} of {len(cohort) // 2} twins are the same stroke); FVV median, largest"
        )
        lines += [
            f"  {one.size:<15}n {one.strokes:<4} found {counted(one.found)}; FVV under {FVV_AT_MOST_ML:g} mL "
            f"{counted(one.fvv_low)}; mismatch likely {counted(one.likely)}; {one.fvv_median_ml:.2f}, "
            f"{one.fvv_largest_ml:.2f} mL"
            for one in unchanged
        ]
        lines.append("AUC for the reader's label: FVV, predicted volume alone, reference volume alone")
        lines += [
            f"  {row.size:<15}{row.mismatch} mismatches, {row.no_mismatch} others: "
            + "; ".join(with_interval(area) for area in (row.fvv, row.predicted, row.reference))
            for row in areas
        ]
    lines += [
        f"real head {one.name}, {one.group}: {one.decision}; stroke {format_ml(one.predicted_ml)} of "
        f"{format_ml(one.reference_ml)}, FVV {format_ml(one.fvv_ml)}"
        for one in answers["real"]
    ]
    if stored := answers["stored"]:
        decisions = sorted({one.decision for one in stored})
        apart = largest_difference_ml(stored)
        content["stored"] = {"ways": len(stored), "decisions": decisions, "largest_difference_ml": apart}
        lines.append(f"stored in {len(stored)} ways: {', '.join(decisions)}; volumes up to {apart:.3g} mL apart")
    content["answers"] = [asdict(one) for group in answers.values() for one in group]
    return lines, content


def _plain(row: Unchanged | WithinSize) -> dict[str, object]:
    """A row for JSON: NaN becomes null."""
    text = json.dumps({name: getattr(row, name) for name in row.__dataclass_fields__}, default=_values)
    content: dict[str, object] = json.loads(text, parse_constant=lambda _: None)
    return content


def _values(value: Share | Estimate) -> object:
    return value.model_dump(mode="json") if isinstance(value, Share) else asdict(value)


def main(arguments: list[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="Where images and answers are kept")
    parser.add_argument("-m", "--models", type=Path, help="Bundle (default: the model in the package)")
    parser.add_argument("-c", "--config", type=Path, default=SETTINGS, help="Settings (default: configs/model.yaml)")
    parser.add_argument("--strokes", type=int, default=60, help="Simulated strokes (default: 60; 0: none)")
    parser.add_argument("--seed", type=int, default=90_000, help="Seed of the simulated strokes")
    parser.add_argument("--golden", type=Path, action="append", default=[], help="Folder of a real stroke")
    parser.add_argument("--ways", type=int, default=48, help="Ways of storage of the first head (default: 48; 0: none)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (0 = all cores)")
    parser.add_argument("--json", type=Path, help="Write all numbers to this file too")
    options = parser.parse_args(arguments)
    settings = load_config(options.config).simulate
    options.folder.mkdir(parents=True, exist_ok=True)
    examiner = Examiner(options.models, options.folder, options.threads)
    answers: dict[str, list[Answer]] = {"simulated": [], "real": [], "stored": []}
    if options.strokes:
        answers["simulated"] = simulated(examiner, options.folder, settings, options.strokes, options.seed)
    answers["real"] = [answer for case in options.golden for answer in real(examiner, case)]
    first = options.folder / "as_it_is" / "sim_0001" if options.strokes else next(iter(options.golden), None)
    if options.ways and first is not None:
        answers["stored"] = stored_in_all_ways(examiner, first, options.ways)
    lines, content = report(answers)
    print("\n".join(lines))
    if options.json is not None:
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
