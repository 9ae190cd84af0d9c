"""Compare resolutions, losses and augmentations at equal training time, several seeds each, on a synthetic cohort.

    python experiments/compare_training.py -o comparison --minutes 8 [--seeds 1] [--only base] [--real PATH]

Makes the cohort and its store in the output folder once, times a few steps of every variant, and notes in plan.json how
many epochs of it fit into so many minutes of one core, so that every schedule ends in its time, whatever else the
machine does. Then it trains fold 0 of each variant and seed, one thread each, as many side by side as there are cores,
and tests the chosen checkpoints on that fold's test patients, who neither trained nor chose, and on the labelled
patients of `--real`, a store or a folder like input_data. The same command resumes with the same plan. table.csv has a
row for each run, table.md the mean and the spread over seeds. It runs for hours. The best variants deserve more seeds:
`--only A B --seeds 3`.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PROFILES, PrepareConfig, PreprocessConfig, SimulateConfig, TrainConfig
from fvv.data import Channel, Role
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.slabs import network_input
from fvv.io.atomic import write_text
from fvv.io.case import read_case
from fvv.io.folds import FOLDS_FILE
from fvv.io.store import CaseStore
from fvv.io.tables import write_table
from fvv.stages.prepare import prepare
from fvv.stages.simulate import simulate
from fvv.stages.train import train_fold
from fvv.system.parallel import core_count
from fvv.training.augment import apply_changes, draw_changes
from fvv.training.checkpoint import read_checkpoint
from fvv.training.losses import segmentation_loss
from fvv.training.module import mark_volume
from fvv.training.network import CONTEXT_SLICES, SegmentationNetwork
from fvv.training.validation import final_masks, judge_patient, summarise

FOLD = 0
SHOWN = {
    "score": "valid/score",
    "stroke": "valid/dice_stroke",
    "stroke, pooled": "valid/dice_stroke_pooled",
    "FLAIR-visible": "valid/dice_flair_visible",
    "AUC": "valid/auc",
    "brain": "valid/dice_brain",
    "false positives, mL": "false_positives_ml",
}
"""Columns of the table; false positives: predicted stroke outside the reference, mean over patients."""
BASE: dict[str, Any] = {
    "slices_per_epoch": 1024,
    "slab_slices": 8,
    "batch_slabs": 4,
    "learning_rate": 0.004,
    "schedule": "onecycle",
    "preload_ram": True,
    "wandb_mode": "disabled",
    "figures_every_epochs": 999,
    "network": {"resolution": "half"},
    "loss": {"stroke_weight": 5.0, "flair_visible_weight": 30.0, "dice_weight": 1.0},
    "augment": {"brightness": 0.05, "contrast": 0.05},
}
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "full resolution": {"network": {"resolution": "full"}},
    "reference weights without Dice": {"loss": {"dice_weight": 0.0}},
    "reference weights and Dice": {"loss": {}},
    "reference loss": {"loss": {"label_smoothing": 0.02, "normalisation": "brain", "dice_weight": 0.0}},
    "reference augmentation": {"augment": {}},
    "moving average": {"augment": {}, "ema_decay": 0.995},
    "statistics of the last steps": {"augment": {}, "norm_slabs": 0},
}
"""What differs from BASE, section by section."""


def settings(variant: str, seed: int, epochs: int) -> TrainConfig:
    name = f"{variant.replace(',', '').replace(' ', '-')}-seed{seed}"
    return TrainConfig.model_validate(
        BASE | VARIANTS[variant] | {"name": name, "seed": seed, "epochs": epochs, "jobs": core_count()}
    )


def open_cohort(folder: Path, cases: int, seed: int) -> CaseStore:
    """Many small and faint lesions, little signal: harder than the demo's cohort."""
    harder = {"minimum_contrast_to_noise": 1.2, "follow_up_share": 0.15, "reader_noise": 0.06}
    simulate(folder / "input_data", SimulateConfig(cases=cases, seed=seed, **harder))
    prepare(folder / "input_data", folder / "preprocessed_data", PrepareConfig(kfolds=4))
    return CaseStore.open(folder / "preprocessed_data")


def seconds_of_an_epoch(config: TrainConfig) -> float:
    """Processor time of training steps alone, the best of eight, on random slabs."""
    torch.manual_seed(0)
    network = SegmentationNetwork(config.network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.randn(config.batch_slabs, 2, config.slab_slices + 2 * CONTEXT_SLICES, 256, 256)
    labels = torch.rand(config.batch_slabs, 3, config.slab_slices, 256, 256) > 0.5
    changes = draw_changes(config.augment, config.batch_slabs, torch.Generator().manual_seed(0))
    times = []
    for _ in range(9):
        started = time.process_time()
        changed, masks = apply_changes(images, labels, changes)
        optimizer.zero_grad()
        segmentation_loss(network(changed), masks, config.loss).total.backward()
        optimizer.step()
        times.append(time.process_time() - started)
    return min(times[1:]) * config.slices_per_epoch / (config.batch_slabs * config.slab_slices)


def plan_epochs(path: Path, variants: list[str], minutes: float) -> dict[str, int]:
    """Epochs of every variant, as planned once."""
    torch.set_num_threads(1)
    plan: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    for variant in variants:
        if variant not in plan:
            plan[variant] = max(2, int(60 * minutes / seconds_of_an_epoch(settings(variant, 0, 1))))
    write_text(path, json.dumps(plan, indent=2) + "\n")
    return plan


Labelled = tuple[FloatArray, BoolArray, float, bool | None]
"""Padded images, reference masks (both channels first), voxel volume (mL), mismatch."""


def stored_patients(store: CaseStore, names: Iterable[str]) -> Iterator[Labelled]:
    for name in names:
        record = store.record(name)
        images, labels = store.read_slab(name, -CONTEXT_SLICES, record.n_slices + CONTEXT_SLICES)
        yield (
            images,
            labels[:, CONTEXT_SLICES:-CONTEXT_SLICES],
            record.voxel_volume_ml,
            record.participant.dwi_flair_mismatch,
        )


def labelled_patients(path: Path, profile: str) -> Iterator[Labelled]:
    """Of a store, or of a folder of patients."""
    if (path / FOLDS_FILE).exists():
        store = CaseStore.open(path)
        yield from stored_patients(store, store.participants)
        return
    for folder in sorted(item for item in path.iterdir() if item.is_dir()):
        case = preprocess_case(read_case(folder, PreprocessConfig(), labelled=True), PROFILES[profile])
        masks = (case.brain, case.stroke, case.flair_visible)
        reference = np.stack([np.moveaxis(mask, 2, 0) for mask in masks if mask is not None])
        yield network_input(case, CONTEXT_SLICES), reference, case.grid.voxel_volume_ml, None


@torch.inference_mode()
def test_scores(network: SegmentationNetwork, patients: Iterable[Labelled]) -> dict[str, float]:
    """The scores of validation, of patients that had no part in training."""
    judged, false_positives_ml = [], []
    stroke = Channel.STROKE.value
    for images, reference, voxel_volume_ml, mismatch in patients:
        masks = final_masks((mark_volume(network, torch.from_numpy(images).float()) > 0).numpy())
        judged.append(
            judge_patient(masks, reference, loss=float("nan"), voxel_volume_ml=voxel_volume_ml, mismatch=mismatch)
        )
        false_positives_ml.append(float((masks[stroke] & ~reference[stroke]).sum()) * voxel_volume_ml)
    scores = summarise(judged) | {"false_positives_ml": float(np.mean(false_positives_ml))}
    return {name: scores[key] for name, key in SHOWN.items()}


def run(folder: Path, real: Path | None, epochs: dict[str, int], job: tuple[str, int]) -> dict[str, Any]:
    """Train and test one variant with one seed; a row of the table."""
    variant, seed = job
    torch.set_num_threads(1)
    store = CaseStore.open(folder / "preprocessed_data")
    config = settings(variant, seed, epochs[variant])
    result = train_fold(store.path, folder / "saved_models", FOLD, config)
    network = read_checkpoint(result.folder / "best.ckpt").build()
    names = store.folds.participants(FOLD, Role.TEST)
    scores = {"test": test_scores(network, stored_patients(store, names))}
    if real is not None:
        scores["real"] = test_scores(network, labelled_patients(real, PrepareConfig().profile))
    row: dict[str, Any] = {"variant": variant, "seed": seed, "epochs": result.epochs}
    return row | {f"{who} {name}": value for who, found in scores.items() for name, value in found.items()}


def write_summary(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = [name for name in list(rows[0])[3:] if not all(np.isnan(float(row[name])) for row in rows)]
    lines = ["| variant | epochs | seeds | " + " | ".join(columns) + " |", "|---" * (3 + len(columns)) + "|"]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        cells = [np.array([float(row[name]) for row in mine]) for name in columns]
        spread = [f"{c.mean():.3f} ± {c.std(ddof=1):.3f}" if c.size > 1 else f"{c.mean():.3f}" for c in cells]
        lines.append(f"| {variant} | {mine[0]['epochs']} | {len(mine)} | " + " | ".join(spread) + " |")
    write_text(path, "\n".join(lines) + "\n")


def run_missing(
    folder: Path,
    work: Callable[[tuple[str, int]], dict[str, Any]],
    variants: Sequence[str],
    seeds: int,
    order: Sequence[str],
) -> list[dict[str, Any]]:
    """Do what table.csv lacks, as many runs side by side as there are cores; gives all rows, variants in this order."""
    table = folder / "table.csv"
    rows: list[dict[str, Any]] = list(csv.DictReader(table.open(encoding="utf-8"))) if table.exists() else []
    done = {(row["variant"], int(row["seed"])) for row in rows}
    # Seed by seed: cut short, it has compared all variants.
    jobs = [(name, seed) for seed in range(seeds) for name in variants if (name, seed) not in done]
    with ProcessPoolExecutor(core_count(), mp_context=multiprocessing.get_context("spawn")) as pool:
        for finished in as_completed([pool.submit(work, job) for job in jobs]):
            rows.append(finished.result())
            rows.sort(key=lambda row: (order.index(row["variant"]), int(row["seed"])))
            write_table(table, rows, columns=list(rows[0]))
            write_summary(folder / "table.md", rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("--minutes", type=float, default=8, help="of one core, training a run")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cases", type=int, default=96)
    parser.add_argument("--cohort-seed", type=int, default=11)
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--real", type=Path, help="labelled patients to test on too: a store, or a folder of patients")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    open_cohort(options.output, options.cases, options.cohort_seed)
    plan = plan_epochs(options.output / "plan.json", options.only, options.minutes)
    work = partial(run, options.output, options.real, plan)
    rows = run_missing(options.output, work, options.only, options.seeds, order=list(VARIANTS))
    if rows:
        print((options.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
