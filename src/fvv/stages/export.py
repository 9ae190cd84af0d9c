"""A labelled cohort in the format of another tool: nnU-Net's raw data set, with the folds of our store."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from fvv.arrays import UInt8Array
from fvv.cohort.examinations import read_cohort
from fvv.config import PrepareConfig
from fvv.data import Case, Channel, Failure, FoldPlan, Participant, Role
from fvv.errors import FvvError, InputError, OutputExistsError
from fvv.io.atomic import write_text
from fvv.io.case import Place
from fvv.io.lock import only_writer
from fvv.io.nifti import write_volume
from fvv.io.nnunet import DATASET, IMAGES, LABELS, SPLITS
from fvv.io.ownership import claim
from fvv.io.store import CaseRecord, CaseStore
from fvv.io.tables import failure_of
from fvv.names import first_few
from fvv.recipes.labelled import read_labelled
from fvv.system.parallel import map_items

DATASET_NAME = re.compile(r"Dataset\d{3}_[A-Za-z0-9_-]+")
"""What nnU-Net accepts as a folder of `nnUNet_raw`."""
STROKE_LABEL, VISIBLE_LABEL = 1, 2
"""Of the part of the stroke that is not FLAIR-visible, and of that which is."""


@dataclass(frozen=True, slots=True)
class ExportResult:
    """What was exported.

    Attributes:
        left_out: examinations without a mask that the others have.
        channels: that the label maps hold.
    """

    folder: Path
    exported: tuple[str, ...]
    left_out: tuple[str, ...]
    channels: tuple[Channel, ...]
    failures: tuple[Failure, ...]

    def summary(self) -> str:
        """A few lines for the console."""
        held = " and ".join(channel.title for channel in self.channels)
        lines = [f"{len(self.exported)} examinations, labels of {held} -> {self.folder}"]
        if self.left_out:
            lines.append(f"left out, a mask is unknown: {first_few(self.left_out, 10)}")
        lines.append(f"copy {SPLITS} into the same folder of nnUNet_preprocessed: nnU-Net then uses these folds")
        return "\n".join(lines)


def export_nnunet(
    cohort: str | Path, store: str | Path, output: str | Path, config: PrepareConfig, *, overwrite: bool = False
) -> ExportResult:
    """Write the examinations of a store's split as a raw data set of nnU-Net v2 (doi 10.1038/s41592-020-01008-z).

    Images are those of the files, on their own grid: channel 0 is b1000, channel 1 b0. Labels are regions: stroke is 1
    and 2, FLAIR-visible is 2. nnU-Net knows no unknown region: where some examinations have both masks, those that lack
    one are left out; where no stroke has a FLAIR-visible mask, the labels are of the stroke alone. In each fold nnU-Net
    validates on our test part, and trains on our training and validation parts: what it predicts for its validation
    part is out of fold.

    Args:
        cohort: what the store was prepared from.
        store: its folds are used.
        output: folder named as nnU-Net wants it, `Dataset001_Name`.
        config: how files are read; which masks may be missing.
        overwrite: replace an earlier export.

    Raises:
        InputError: no data set there, a name that nnU-Net does not accept, or nothing to export.
        StoreError: no store, or no split.
        OutputExistsError: an export is there, or files that this program did not write.
    """
    cohort, output = Path(cohort), Path(output)
    if not DATASET_NAME.fullmatch(output.name):
        message = "expected a folder named DatasetNNN_Name, such as Dataset001_FVV, as nnU-Net does"
        raise InputError(message, file=output)
    opened = CaseStore.open(Path(store))
    plan = opened.folds
    names = [row.examination_id for row in plan.rows]
    chosen, channels = _with_one_set_of_masks({name: opened.record(name) for name in names})
    if not chosen:
        raise InputError("no examination of the split has a stroke mask", file=opened.path)
    with only_writer(output):
        claim(output, (IMAGES, LABELS, DATASET, SPLITS), stage="export")
        if (output / DATASET).exists() and not overwrite:
            raise OutputExistsError("an export is there", file=output, hint="--overwrite replaces it")
        (output / DATASET).unlink(missing_ok=True)  # It is written last: a data set without it is not whole.
        for folder in (IMAGES, LABELS):
            shutil.rmtree(output / folder, ignore_errors=True)
            (output / folder).mkdir()
        located = read_cohort(cohort, unlisted=config.preprocess.unlisted)
        absent = [name for name in chosen if name not in located.people]
        failures = [failure_of(name, InputError("in the store, but not in the data set")) for name in absent]
        done = []
        items = located.located(name for name in chosen if name in located.people)
        work = partial(_export_one, output, config)
        for (one, _), outcome in map_items(work, items, workers=config.compute.workers, description="export"):
            if isinstance(outcome, FvvError):
                failures.append(failure_of(one.examination_id, outcome))
            else:
                done.append(one.examination_id)
        if not done:
            raise InputError(f"nothing could be exported; the first: {failures[0].reason}", file=cohort)
        exported = tuple(sorted(done))
        write_text(output / SPLITS, json.dumps(_splits(plan, exported), indent=1) + "\n")
        write_text(output / DATASET, json.dumps(_description(channels, len(exported)), indent=1) + "\n")
    left_out = tuple(name for name in names if name not in chosen)
    return ExportResult(output, exported, left_out, channels, tuple(failures))


def label_map(case: Case) -> UInt8Array:
    """(i, j, k) uint8: 0 elsewhere, 1 stroke, 2 FLAIR-visible part of it."""
    if case.stroke_roi is None:
        raise InputError("no stroke mask", examination_id=case.examination_id)
    labels = np.where(case.stroke_roi.array, STROKE_LABEL, 0).astype(np.uint8)
    if case.flair_visible_roi is not None:
        labels[case.stroke_roi.array & case.flair_visible_roi.array] = VISIBLE_LABEL
    return labels


def _with_one_set_of_masks(records: dict[str, CaseRecord]) -> tuple[list[str], tuple[Channel, ...]]:
    """The examinations that can be exported together, and the channels of their labels."""
    both = [name for name, record in records.items() if record.known == frozenset(Channel)]
    # An examination without a stroke knows both, and does not say whether the FLAIR-visible part of others is outlined.
    if any(records[name].stroke_ml for name in both):
        return both, (Channel.STROKE, Channel.FLAIR_VISIBLE)
    return [name for name, record in records.items() if Channel.STROKE in record.known], (Channel.STROKE,)


def _export_one(output: Path, config: PrepareConfig, item: tuple[Participant, Place]) -> None:
    one, place = item
    case = read_labelled(place, one, config.preprocess, finite=True)
    for number, image in enumerate((case.b1000, case.b0)):
        target = output / IMAGES / f"{one.examination_id}_{number:04}.nii.gz"
        write_volume(target, image.array.astype(np.float32), image.affine)
    write_volume(output / LABELS / f"{one.examination_id}.nii.gz", label_map(case), case.b1000.affine)


def _splits(plan: FoldPlan, exported: Sequence[str]) -> list[dict[str, list[str]]]:
    def part(fold: int, roles: Iterable[Role]) -> list[str]:
        there = (name for role in roles for name in plan.participants(fold, role))
        return sorted(set(there) & set(exported))

    return [
        {"train": part(fold, (Role.TRAIN, Role.VALID)), "val": part(fold, (Role.TEST,))} for fold in range(plan.n_folds)
    ]


def _description(channels: Sequence[Channel], examinations: int) -> dict[str, object]:
    if Channel.FLAIR_VISIBLE in channels:
        regions: dict[str, object] = {
            Channel.STROKE.label: [STROKE_LABEL, VISIBLE_LABEL],
            Channel.FLAIR_VISIBLE.label: VISIBLE_LABEL,
        }
        order = {"regions_class_order": [STROKE_LABEL, VISIBLE_LABEL]}
    else:
        regions, order = {Channel.STROKE.label: STROKE_LABEL}, {}
    return {
        "channel_names": {"0": "b1000", "1": "b0"},
        "labels": {"background": 0, **regions},
        **order,
        "numTraining": examinations,
        "file_ending": ".nii.gz",
    }
