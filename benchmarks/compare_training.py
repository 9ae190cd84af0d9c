"""Compare networks, losses and augmentations at equal training time, several seeds each, on a synthetic cohort.

    python benchmarks/compare_training.py -o comparison --minutes 20 [--seeds 3] [--only lite0 dice] [--real STORE]

Makes the cohort and its store in the output folder once, times a few steps of every variant, and notes in plan.json how
many epochs of it fit into the minutes, so that every schedule ends in its time. Then trains fold 0 of each variant and
seed, and tests the chosen checkpoints on that fold's test patients, who neither trained nor chose; `--real` names a
store of other patients to test on too. Typed again it goes on where it stopped, with the same plan. table.csv has a row
a run, table.md the mean and the spread over seeds. The two best deserve more seeds: `--only A B --seeds 5`. Without
`-o` it says only this: it runs for hours.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fvv.config import PrepareConfig, SimulateConfig, TrainConfig
from fvv.data import Role
from fvv.io.atomic import write_text
from fvv.io.manifest import write_table
from fvv.io.store import CaseStore
from fvv.stages.prepare import prepare
from fvv.stages.simulate import simulate
from fvv.stages.train import train_fold
from fvv.training.augment import apply_changes, draw_changes
from fvv.training.checkpoint import read_checkpoint
from fvv.training.losses import segmentation_loss
from fvv.training.module import mark_volume
from fvv.training.network import CONTEXT_SLICES, SegmentationNetwork
from fvv.training.validation import final_masks, judge_patient, summarise

FOLD = 0
SHOWN = ("valid/score", "valid/dice_stroke", "valid/dice_stroke_pooled", "valid/dice_flair_visible", "valid/auc")
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
# What differs from BASE, section by section. `base` is what the demo trains.
VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "full resolution": {"network": {"resolution": "full"}},
    "lite0": {"network": {"resolution": "half", "encoder": "lite0"}},
    "lite0 ImageNet": {"network": {"resolution": "half", "encoder": "lite0", "pretrained": True}},
    "reference loss": {"loss": {}},
    "reference loss and Dice": {"loss": {"dice_weight": 1.0}},
    "reference augmentation": {"augment": {}},
    "MR augmentation": {
        "augment": BASE["augment"]
        | {"gamma": 1.2, "bias_field": 0.2, "resolution": 1.5, "thick_slices": 0.3, "noise": 0.15}
    },
    "moving average": {"ema_decay": 0.995},
}


def settings(variant: str, seed: int, epochs: int) -> TrainConfig:
    name = f"{variant.replace(' ', '-')}-seed{seed}"
    return TrainConfig.model_validate(BASE | VARIANTS[variant] | {"name": name, "seed": seed, "epochs": epochs})


def open_cohort(folder: Path, cases: int, seed: int) -> CaseStore:
    """Many small and faint lesions, little signal: harder than the demo's cohort."""
    harder = {"minimum_contrast_to_noise": 1.2, "follow_up_share": 0.15, "reader_noise": 0.06}
    simulate(folder / "input_data", SimulateConfig(cases=cases, seed=seed, **harder))
    prepare(folder / "input_data", folder / "preprocessed_data", PrepareConfig(kfolds=4))
    return CaseStore.open(folder / "preprocessed_data")


def seconds_of_an_epoch(config: TrainConfig) -> float:
    """Training steps alone, the best of three, on random slabs."""
    torch.manual_seed(0)
    network = SegmentationNetwork(config.network).to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.randn(config.batch_slabs, 2, config.slab_slices + 2 * CONTEXT_SLICES, 256, 256)
    labels = torch.rand(config.batch_slabs, 3, config.slab_slices, 256, 256) > 0.5
    changes = draw_changes(config.augment, config.batch_slabs, torch.Generator().manual_seed(0))
    times = []
    for _ in range(4):
        started = time.perf_counter()
        changed, marked = apply_changes(images, labels, changes)
        optimizer.zero_grad()
        segmentation_loss(network(changed), marked, config.loss).total.backward()
        optimizer.step()
        times.append(time.perf_counter() - started)
    return min(times[1:]) * config.slices_per_epoch / (config.batch_slabs * config.slab_slices)


def plan_epochs(path: Path, variants: list[str], minutes: float) -> dict[str, int]:
    """Epochs of every variant, as planned once."""
    plan: dict[str, int] = json.loads(path.read_text()) if path.exists() else {}
    for variant in variants:
        if variant not in plan:
            plan[variant] = max(2, int(60 * minutes / seconds_of_an_epoch(settings(variant, 0, 1))))
    write_text(path, json.dumps(plan, indent=2) + "\n")
    return plan


@torch.inference_mode()
def test_scores(checkpoint: Path, store: CaseStore, patients: tuple[str, ...], config: TrainConfig) -> dict[str, float]:
    """The scores of validation, of patients that had no part in training."""
    network = read_checkpoint(checkpoint).build()
    judged = []
    for patient in patients:
        record = store.record(patient)
        images, labels = store.read_slab(patient, -CONTEXT_SLICES, record.n_slices + CONTEXT_SLICES)
        truth = labels[:, CONTEXT_SLICES:-CONTEXT_SLICES]
        logits = mark_volume(network, torch.from_numpy(images).float())
        loss = float(segmentation_loss(logits[None], torch.from_numpy(truth)[None], config.loss).total)
        judged.append(
            judge_patient(
                final_masks((logits > 0).numpy()),
                truth,
                loss=loss,
                voxel_volume_ml=record.voxel_volume_ml,
                mismatch=record.participant.dwi_flair_mismatch,
            )
        )
    return summarise(judged)


def write_summary(path: Path, rows: list[dict[str, Any]]) -> None:
    columns = [name for name in rows[0] if name.partition(" ")[2] in SHOWN]
    lines = ["| variant | epochs | seeds | " + " | ".join(columns) + " |", "|---" * (3 + len(columns)) + "|"]
    for variant in dict.fromkeys(row["variant"] for row in rows):
        mine = [row for row in rows if row["variant"] == variant]
        cells = [np.array([float(row[name]) for row in mine]) for name in columns]
        spread = [f"{c.mean():.3f} ± {c.std(ddof=1):.3f}" if c.size > 1 else f"{c.mean():.3f}" for c in cells]
        lines.append(f"| {variant} | {mine[0]['epochs']} | {len(mine)} | " + " | ".join(spread) + " |")
    write_text(path, "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="folder for everything")
    parser.add_argument("--minutes", type=float, default=20, help="training time of a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--cohort-seed", type=int, default=11)
    parser.add_argument("--only", nargs="+", choices=sorted(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--real", type=Path, help="store of other patients to test on too")
    options = parser.parse_args()
    if options.output is None:
        parser.print_help()
        return
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    store = open_cohort(options.output, options.cases, options.cohort_seed)
    plan = plan_epochs(options.output / "plan.json", options.only, options.minutes)
    tests = {"test": (store, store.folds.participants(FOLD, Role.TEST))}
    if options.real is not None:
        real = CaseStore.open(options.real)
        tests["real"] = (real, real.participants)
    table = options.output / "table.csv"
    old = list(csv.DictReader(table.open())) if table.exists() else []
    rows: list[dict[str, Any]] = [row for row in old if row["variant"] not in options.only]
    for seed in range(options.seeds):
        for variant in options.only:
            config = settings(variant, seed, plan[variant])
            result = train_fold(store.path, options.output / "saved_models", FOLD, config)
            row: dict[str, Any] = {"variant": variant, "seed": seed, "epochs": result.epochs}
            for name, (patients_of, patients) in tests.items():
                scores = test_scores(result.folder / "best.ckpt", patients_of, patients, config)
                row |= {f"{name} {score}": value for score, value in scores.items()}
            rows.append(row)
            write_table(table, rows, columns=list(rows[-1]))
            write_summary(options.output / "table.md", rows)
    print((options.output / "table.md").read_text())


if __name__ == "__main__":
    main()
