"""What each part of the simulator is worth to a network trained on it: the same training, one part left out.

    python experiments/ablate_simulator.py -o ablation --minutes 10 [--seeds 3] [--only full] [--real PATH]

For every variant and seed it simulates a cohort with the settings of configs/model.yaml, changed as the variant says;
one seed means the same persons in every variant. It trains one network on the cohort at half resolution, on one thread,
for so many minutes of a core (or `--slices` training slices: the same number whatever the machine), and tests the
chosen checkpoint on new simulated patients with everything on, the same for all, and on the labelled patients of
`--real`, a store or a folder like input_data. As many runs side by side as there are cores. A run's cohort is removed
when it is tested. The same command resumes with the same plan. table.csv has a row for each run, table.md the mean and
the standard deviation over seeds. It runs for hours.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from compare_training import FOLD, labelled_patients, run_missing, seconds_of_an_epoch, test_scores

from fvv.config import PrepareConfig, SimulateConfig, TrainConfig, load_config
from fvv.io.atomic import write_text
from fvv.io.store import CaseStore
from fvv.stages.prepare import prepare
from fvv.stages.simulate import simulate
from fvv.stages.train import train_fold
from fvv.system.parallel import core_count
from fvv.training.checkpoint import read_checkpoint

SETTINGS = Path(__file__).resolve().parents[1] / "configs" / "model.yaml"
PROFILE = load_config(SETTINGS).prepare.profile
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "no distractors": {"distractors": False},
    "nothing near air": {"near_air": "none"},
    "no bands near air": {"near_air": "smooth"},
    "one appearance": {"vary_appearance": False},
    "no contrast floor": {"minimum_contrast_to_noise": 0.0},
    "no brightening floor": {"minimum_brightening": 1.0},
    "one pace for all sizes": {"pace_by_size": False},
    "few large lesions": {"large_lesion_share": 0.05},
    "whole infarcts outlined": {"reader_threshold": 0.0},
    "one posterior fossa": {"posterior_fossa_spread": 0.0},
    "no thin slices": {"thin_slice_share": 0.0},
    "never skull-stripped": {"skull_stripped_share": 0.0},
}
"""What differs from configs/model.yaml."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What all runs share; written once to plan.json, so that a run that goes on does the same."""

    cases: int
    test_cases: int
    train_seed: int
    test_seed: int
    epochs: int
    slices_per_epoch: int


def cohort_settings(variant: str, **changes: int) -> SimulateConfig:
    whole = load_config(SETTINGS).simulate.model_dump()
    return SimulateConfig.model_validate(whole | VARIANTS[variant] | changes)


def training(name: str, seed: int, *, epochs: int, slices_per_epoch: int) -> TrainConfig:
    """That of the model, shorter."""
    changes = {"name": name, "seed": seed, "epochs": epochs, "slices_per_epoch": slices_per_epoch, "jobs": core_count()}
    return TrainConfig.model_validate(load_config(SETTINGS).train.model_dump() | changes)


def make_plan(options: argparse.Namespace) -> Plan:
    """As planned once, or from the options; one number of epochs for all, as all train the same network."""
    path = options.output / "plan.json"
    if path.exists():
        return Plan(**json.loads(path.read_text(encoding="utf-8")))
    per_epoch = int(options.slices_per_epoch)
    if options.slices:
        epochs = options.slices // per_epoch
    else:
        torch.set_num_threads(1)
        epochs = int(
            60 * options.minutes / seconds_of_an_epoch(training("plan", 0, epochs=1, slices_per_epoch=per_epoch))
        )
    plan = Plan(options.cases, options.test_cases, options.train_seed, options.test_seed, max(2, epochs), per_epoch)
    names = Plan.__dataclass_fields__
    write_text(path, json.dumps({name: getattr(plan, name) for name in names}, indent=2) + "\n")
    return plan


def open_cohort(folder: Path, settings: SimulateConfig, kfolds: int) -> CaseStore:
    simulate(folder / "input_data", settings)
    prepare(
        folder / "input_data",
        folder / "store",
        PrepareConfig(profile=PROFILE, kfolds=kfolds, compute=settings.compute),
    )
    return CaseStore.open(folder / "store")


def run(folder: Path, real: Path | None, plan: Plan, job: tuple[str, int]) -> dict[str, Any]:
    """Simulate, train and test one variant with one seed; a row of the table."""
    variant, seed = job
    torch.set_num_threads(1)
    name = f"{variant.replace(' ', '-')}-seed{seed}"
    settings = cohort_settings(variant, cases=plan.cases, seed=plan.train_seed + seed, workers=1)
    # Eight folds: an eighth of the patients is left aside, as the stage wants it, and not looked at.
    store = open_cohort(folder / "cohorts" / name, settings, kfolds=8)
    config = training(name, seed, epochs=plan.epochs, slices_per_epoch=plan.slices_per_epoch)
    result = train_fold(store.path, folder / "saved_models", FOLD, config)
    network = read_checkpoint(result.folder / "best.ckpt").build()
    scores = {"simulated": test_scores(network, labelled_patients(folder / "test" / "store", PROFILE))}
    if real is not None:
        scores["real"] = test_scores(network, labelled_patients(real, PROFILE))
    shutil.rmtree(folder / "cohorts" / name)
    row: dict[str, Any] = {"variant": variant, "seed": seed, "epochs": result.epochs}
    return row | {f"{who} {what}": value for who, found in scores.items() for what, value in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for everything")
    budget = parser.add_mutually_exclusive_group()
    budget.add_argument("--minutes", type=float, default=10, help="of one core, training a run (default: 10)")
    budget.add_argument("--slices", type=int, help="training slices of a run, instead of minutes")
    parser.add_argument("--slices-per-epoch", type=int, default=1024)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", type=int, default=64, help="simulated patients to train on")
    parser.add_argument("--test-cases", type=int, default=30)
    parser.add_argument("--train-seed", type=int, default=3000, help="cohort of the first seed; the next has one more")
    parser.add_argument("--test-seed", type=int, default=4000)
    parser.add_argument("--only", nargs="+", choices=list(VARIANTS), default=list(VARIANTS), metavar="VARIANT")
    parser.add_argument("--real", type=Path, help="labelled patients to test on too: a store, or a folder of patients")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    plan = make_plan(options)
    open_cohort(options.output / "test", cohort_settings("full", cases=plan.test_cases, seed=plan.test_seed), kfolds=2)
    work = partial(run, options.output, options.real, plan)
    rows = run_missing(options.output, work, options.only, options.seeds, order=list(VARIANTS))
    if rows:
        print((options.output / "table.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
