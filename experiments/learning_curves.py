"""How many labelled patients of a hospital are needed, from random weights and from the model in the package?

    python experiments/learning_curves.py STORE -o curves [--sizes 10 30 100] [--half-sizes 30] [--seeds 3]
        [--slices 8192 1024] [--figure docs/images/learning-curves.svg]

STORE is what `fvv prepare` wrote of the hospital's examinations. A simulated hospital, of persons whom the model in the
package has not seen, with another scanner and other readers than in its training:

    fvv simulate -c experiments/learning_curves.yaml -o hospital
    fvv prepare -c experiments/learning_curves.yaml -i hospital -o hospital_store

One examination of each person is used. The persons held out for testing are the same in all runs. Each seed takes
other persons of the rest, and the smaller cohorts are parts of the larger ones. A fifth of a cohort, all of them with
a stroke, selects the epoch. With `half`, every second person with a stroke loses the FLAIR-visible mask and keeps the
stroke mask. Training from the package starts from another one of its models for each seed.

All trainings have the settings of configs/demo.yaml. Random weights train at half resolution; those of the package go
on at their own, full resolution, where a slice takes four times as long: 8192 and 1024 slices. One network is tested,
without the evidence rule. curves/runs.csv has a row for each finished run, curves/table.md the mean and the range over
seeds. The same command resumes, inside a run too; another one with the same folder adds to its table and figure.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import nn

from fvv.analysis.statistics import auc
from fvv.arrays import BoolArray, FloatArray
from fvv.cohort.labels import mismatch_labels
from fvv.config import TrainConfig, load_config
from fvv.data import Channel, FoldPlan, FoldRow, Role
from fvv.imaging.overlap import Overlap
from fvv.io.atomic import write_text
from fvv.io.folds import FOLDS_FILE, write_folds
from fvv.io.initial import SHIPPED
from fvv.io.store import CASES_FOLDER, CaseStore
from fvv.io.tables import write_table
from fvv.stages.train import train_fold
from fvv.system.fingerprint import fingerprint
from fvv.training.checkpoint import read_checkpoint
from fvv.training.initial import initial_weights
from fvv.training.module import mark_volume
from fvv.training.network import CONTEXT_SLICES
from fvv.training.validation import final_masks

SETTINGS = Path(__file__).resolve().parents[1] / "configs" / "demo.yaml"
EPOCHS, SLAB_SLICES = 2, 8
VALIDATION_SHARE = 0.2
SCRATCH, BOX, AS_IT_IS = "random weights", "the model in the package", "the model in the package, not trained further"
ALL, HALF = "all", "half"
"""Of the persons with a stroke, who has a FLAIR-visible mask."""
SCORES = ("stroke Dice", "FLAIR-visible Dice", "AUC")
SHOWN = (*SCORES, "strokes missed", "stroke-free: false mL")

log = logging.getLogger("learning_curves")


@dataclass(frozen=True, slots=True)
class Run:
    """One training, or one test of the model in the package as it is.

    Attributes:
        size: labelled persons, those included who select the epoch; 0 without a training.
        slices: that the training sees.
    """

    start: str
    labels: str
    size: int
    seed: int
    slices: int

    @property
    def name(self) -> str:
        """As a name of a file."""
        start = {SCRATCH: "scratch", BOX: "box"}[self.start]
        return f"{start}-{self.labels}-{self.size}-seed{self.seed}-{self.slices}"


@dataclass(frozen=True, slots=True)
class Held:
    """One held-out examination: padded images (2, Z + 6, H, W), reference masks (3, Z, H, W), mL of a voxel, label."""

    images: FloatArray
    reference: BoolArray
    voxel_volume_ml: float
    mismatch: bool | None


@dataclass(frozen=True, slots=True)
class Hospital:
    """The examinations of a store, dealt out.

    Attributes:
        test: held out from all runs.
        rest: the others, in the order of their names.
        stroke: those that have one.
    """

    store: CaseStore
    test: tuple[str, ...]
    rest: tuple[str, ...]
    stroke: frozenset[str]

    @classmethod
    def open(cls, path: Path, test: int) -> Hospital:
        """Take one examination of each person; hold out this number of them, the same ones each time."""
        store = CaseStore.open(path)
        first: dict[str, str] = {}
        stroke = set()
        for name in store.participants:
            record = store.record(name)
            if first.setdefault(record.participant.person_id, name) == name and any(record.stroke_voxels):
                stroke.add(name)
        names = sorted(first.values())
        held_out = set(np.random.default_rng(0).permutation(names)[:test].tolist())
        rest = tuple(name for name in names if name not in held_out)
        return cls(store, tuple(sorted(held_out)), rest, frozenset(stroke))

    def cohort(self, size: int, seed: int) -> dict[str, Role]:
        """The labelled persons of one seed; a fifth of them, with a stroke, select the epoch.

        Raises:
            SystemExit: the store has fewer.
        """
        if size > len(self.rest):
            raise SystemExit(f"error: {self.store.path}: {size} persons asked for, {len(self.rest)} are not held out")
        names = np.random.default_rng((1, seed)).permutation(self.rest)[:size].tolist()
        selecting = [name for name in names if name in self.stroke][: max(2, round(size * VALIDATION_SHARE))]
        return {name: Role.VALID if name in selecting else Role.TRAIN for name in names}

    def without_visible(self, names: Iterable[str]) -> set[str]:
        """Every second one with a stroke: of those who train and of those who select, in the order they are given."""
        return {*[name for name in names if name in self.stroke][1::2]}


def store_of(hospital: Hospital, folder: Path, size: int, labels: str, seed: int) -> Path:
    """A store for one cohort, of links to the prepared examinations; those that lost a mask are written again."""
    roles = hospital.cohort(size, seed)
    of_role = [[name for name, role in roles.items() if role is wanted] for wanted in (Role.TRAIN, Role.VALID)]
    lost = set().union(*map(hospital.without_visible, of_role)) if labels == HALF else set()
    less = CaseStore.create(folder / "stores" / "without_visible", hospital.store.profile)
    for name in lost - {*less.participants}:
        record = hospital.store.record(name)
        case = replace(hospital.store.read(name), flair_visible=None)
        source = fingerprint(of=record.source_sha256, without=Channel.FLAIR_VISIBLE.label)
        less.write(case, record.participant, image_sha256=record.image_sha256, source_sha256=source)
    made = CaseStore.create(folder / "stores" / f"{labels}-{size}-seed{seed}", hospital.store.profile)
    (made.path / CASES_FOLDER).mkdir(exist_ok=True)
    rows = []
    for name, role in (roles | dict.fromkeys(hospital.test, Role.TEST)).items():
        link = made.path / CASES_FOLDER / f"{name}.zarr"
        if not link.is_symlink():
            origin = less if name in lost else hospital.store
            link.symlink_to((origin.path / CASES_FOLDER / link.name).resolve(), target_is_directory=True)
        rows.append(FoldRow(name, hospital.store.record(name).participant.person_id, (role,)))
    write_folds(made.path / FOLDS_FILE, FoldPlan(tuple(sorted(rows, key=lambda row: row.examination_id))))
    return made.path


def settings(run: Run) -> TrainConfig:
    """Those of the demo, at this number of slices."""
    changes = {
        "name": run.name,
        "seed": run.seed,
        "epochs": EPOCHS,
        "slices_per_epoch": run.slices // EPOCHS,
        "slab_slices": SLAB_SLICES,
        "init": "" if run.start == SCRATCH else f"{SHIPPED}#{run.seed + 1}",
        "network.resolution": "half" if run.start == SCRATCH else "full",
        "figures_every_epochs": EPOCHS,
    }
    return load_config(SETTINGS, {f"train.{name}": value for name, value in changes.items()}).train


def network_of(run: Run, hospital: Hospital, folder: Path) -> nn.Module:
    """The network to test. Training refuses one that was trained on a person who is held out."""
    if run.start == AS_IT_IS:
        smallest = store_of(hospital, folder, 10, ALL, run.seed)
        return initial_weights(CaseStore.open(smallest), 0, settings(replace(run, start=BOX, slices=EPOCHS))).network
    store = store_of(hospital, folder, run.size, run.labels, run.seed)
    trained = train_fold(store, folder / "saved_models", 0, settings(run))
    return read_checkpoint(trained.folder / "best.ckpt").build()


def held_out(hospital: Hospital) -> list[Held]:
    """All held-out examinations, in memory: about 15 MB each."""
    found = []
    for name in hospital.test:
        record = hospital.store.record(name)
        images, labels = hospital.store.read_slab(name, -CONTEXT_SLICES, record.n_slices + CONTEXT_SLICES)
        reference = labels[:, CONTEXT_SLICES:-CONTEXT_SLICES]
        found.append(Held(images, reference, record.voxel_volume_ml, record.participant.dwi_flair_mismatch))
    return found


@torch.inference_mode()
def test(network: nn.Module, patients: Sequence[Held]) -> dict[str, float]:
    """The scores of one network, each with the number of examinations behind it (`n of` ...).

    Dice: the mean over the examinations whose reference mask is not empty. AUC of the FVV for the mismatch, by the
    readers' labels. Missed: strokes of which nothing is found. False mL: mean stroke predicted where there is none.
    """
    stroke, visible = Channel.STROKE.value, Channel.FLAIR_VISIBLE.value
    dice: dict[int, list[float]] = {stroke: [], visible: []}
    missed, false_ml, fvv_ml, fractions = [], [], [], []
    for patient in patients:
        logits = mark_volume(network, torch.from_numpy(patient.images).float())
        masks = final_masks((logits > 0).numpy())
        for channel, values in dice.items():
            if patient.reference[channel].any():
                values.append(Overlap.of_masks(patient.reference[channel], masks[channel]).dice_coefficient)
        strokes = int(patient.reference[stroke].sum())
        if strokes:
            missed.append(not (masks[stroke] & patient.reference[stroke]).any())
        else:
            false_ml.append(float(masks[stroke].sum()) * patient.voxel_volume_ml)
        fvv_ml.append(float(masks[visible].sum()) * patient.voxel_volume_ml)
        fractions.append(patient.reference[visible].sum() / strokes if strokes else math.nan)
    labels = mismatch_labels([patient.mismatch for patient in patients], fractions).values
    labelled = [(volume, label) for volume, label in zip(fvv_ml, labels, strict=True) if label is not None]
    area = auc(np.array([one for one, _ in labelled]), np.array([label for _, label in labelled], dtype=bool))
    scores = (_mean(dice[stroke]), _mean(dice[visible]), area, float(sum(missed)), _mean(false_ml))
    counts = (len(dice[stroke]), len(dice[visible]), len(labelled), len(missed), len(false_ml))
    return {
        **dict(zip(SHOWN, scores, strict=True)),
        **{f"n of {name}": n for name, n in zip(SHOWN, counts, strict=True)},
    }


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else math.nan


def all_runs(sizes: Sequence[int], half_sizes: Sequence[int], seeds: int, slices: Mapping[str, int]) -> list[Run]:
    """The small cohorts first and the longer trainings last: cut short, it has compared the starts there.

    Args:
        half_sizes: of the cohorts that are trained with half of the FLAIR-visible masks too, from the package alone.
        slices: that a training sees, by its start.
    """
    runs = [Run(AS_IT_IS, ALL, 0, seed, 0) for seed in range(seeds)]
    for size, (start, labels) in product(sizes, ((BOX, ALL), (BOX, HALF), (SCRATCH, ALL))):
        if labels == ALL or size in half_sizes:
            runs += [Run(start, labels, size, seed, slices[start]) for seed in range(seeds)]
    return runs


def read_rows(path: Path) -> list[dict[str, str]]:
    """Finished runs."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def key(row: Mapping[str, str]) -> Run:
    """Which run a row is of."""
    return Run(row["start"], row["labels"], int(row["size"]), int(row["seed"]), int(row["slices"]))


def grouped(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str, int, int], list[Mapping[str, str]]]:
    """Rows of the same cell of the experiment: start, labels, size, slices."""
    groups: dict[tuple[str, str, int, int], list[Mapping[str, str]]] = {}
    for row in sorted(rows, key=lambda row: (key(row).size, key(row).labels, key(row).start, key(row).seed)):
        run = key(row)
        groups.setdefault((run.start, run.labels, run.size, run.slices), []).append(row)
    return groups


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Markdown: mean and range over seeds."""
    heads = [f"{name} (n = {rows[0][f'n of {name}']})" for name in SHOWN]
    lines = [
        f"| persons | FLAIR masks | start | slices | seeds | {' | '.join(heads)} |",
        "|---" * (5 + len(SHOWN)) + "|",
    ]
    for (start, labels, size, slices), group in grouped(rows).items():
        cells = [cell([float(row[name]) for row in group]) for name in SHOWN]
        lines.append(f"| {size} | {labels if size else ''} | {start} | {slices} | {len(group)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def cell(values: Sequence[float]) -> str:
    """Mean and range."""
    mean = f"{np.mean(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def figure(rows: Sequence[Mapping[str, str]]) -> Figure:
    """A panel for each score: mean over seeds by size, a mark for each seed, the model as it is as a level."""
    drawing = Figure(figsize=(9.6, 3.6), layout="constrained")
    panels = drawing.subplots(1, len(SCORES))
    groups = grouped(rows)
    sizes = sorted({size for _, _, size, _ in groups if size})
    styles = product(((SCRATCH, "#d55e00"), (BOX, "#0072b2")), ((ALL, "-", "o"), (HALF, ":", "x")))
    for (start, colour), (labels, line, mark) in styles:
        points = [(size, group) for (*which, size, _), group in groups.items() if which == [start, labels]]
        if not points:
            continue
        for axes, name in zip(panels, SCORES, strict=True):
            values = [(size, [float(row[name]) for row in group]) for size, group in points]
            label = f"{start}, {labels} FLAIR masks"
            means = [(size, np.mean(found)) for size, found in values]
            axes.plot(*zip(*means, strict=True), line, marker=mark, color=colour, label=label)
            for size, found in values:
                axes.plot([size] * len(found), found, mark, color=colour, markersize=4, alpha=0.6)
    as_it_is = [row for row in rows if row["start"] == AS_IT_IS]
    for axes, name in zip(panels, SCORES, strict=True):
        if as_it_is:
            level = float(np.mean([float(row[name]) for row in as_it_is]))
            axes.axhline(level, color="#666666", linewidth=1, linestyle="--", label=AS_IT_IS)
        axes.set(xscale="log", xlabel="labelled persons", title=f"{name}, n = {rows[0][f'n of {name}']}")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
    names = panels[0].get_legend_handles_labels()
    drawing.legend(*names, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return drawing


def measure(hospital: Hospital, runs: Sequence[Run], folder: Path) -> Sequence[Mapping[str, str]]:
    """Do the runs that runs.csv lacks; gives all its rows, those of earlier commands too."""
    path = folder / "runs.csv"
    patients: list[Held] = []
    for run in runs:
        if run in map(key, read_rows(path)):
            continue
        patients = patients or held_out(hospital)
        started = time.process_time()
        scores = test(network_of(run, hospital, folder).eval(), patients)
        stated = {name: str(getattr(run, name)) for name in ("start", "labels", "size", "seed", "slices")}
        row = {**stated, "seconds": f"{time.process_time() - started:.0f}"}
        row |= {name: f"{value:.4f}" if name in SHOWN else str(value) for name, value in scores.items()}
        rows = [*read_rows(path), row]
        write_table(path, rows)
        write_text(folder / "table.md", table(rows))
        log.info("%s", ", ".join(f"{name} {value}" for name, value in row.items() if not name.startswith("n of")))
    return read_rows(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, metavar="STORE", help="folder that `fvv prepare` wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10, 30, 100], help="labelled persons")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--half-sizes", type=int, nargs="*", default=[30], help="trained with half of the masks, too")
    parser.add_argument(
        "--slices", type=int, nargs=2, default=[8192, 1024], help="random weights, model in the package"
    )
    parser.add_argument("--test", type=int, default=40, help="persons held out for testing")
    parser.add_argument("--figure", type=Path, help="SVG file to write")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    log.setLevel(logging.INFO)
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    hospital = Hospital.open(options.store, options.test)
    slices = dict(zip((SCRATCH, BOX), options.slices, strict=True))
    runs = all_runs(options.sizes, options.half_sizes, options.seeds, slices)
    rows = measure(hospital, runs, options.output)
    print(table(rows))
    if options.figure is not None:
        figure(rows).savefig(options.figure, metadata={"Date": None})


if __name__ == "__main__":
    main()
