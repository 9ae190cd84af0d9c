"""Side by side with the field: one cohort, one split, one processor, equal time to train.

    python experiments/peers/run.py -o peers --budget 7200 [--peers ours reference ...] [--seeds 1] [--cases 120]
        [--input COHORT]

simulates a cohort with the settings of the model in the package (or takes a labelled one), prepares it, and for each
peer and seed: times its training steps, plans so many slices that they take the budget (seconds of processor time, one
thread), trains the first fold, and tests it on that fold's test examinations, which neither train nor select. Each
part runs in a process of its own, whose processor time and peak memory are noted. FOLDER/table.md has the results of
all runs there, and says of which peers the model was refused; the same command resumes where it stopped. Peers:

    ours, ours-full       the network of fvv at half and at full resolution, settings of configs/model.yaml
    reference             reference_network.py, settings of configs/reference.yaml
    segresnet             plain_network.py, settings of configs/model.yaml
    nnunet-2d, nnunet-3d  nnU-Net v2, its own pipeline (nnunet.py)

Validation and conversion are not part of the budget, but of the time that the table shows. Nothing is removed from the
predicted strokes of any peer.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nnunet
from peers import PEERS, evaluation_settings, settings_of
from steps import convert_here, evaluate_here, measured_apart, predict_here, seconds_a_slice_here, train_here
from table import REFUSED_FILE, table

from fvv.cli.settings import PACKAGED
from fvv.config import load_config
from fvv.errors import FvvError
from fvv.io.atomic import write_text
from fvv.io.bundle import BUNDLE_FILE

KFOLDS, VALID_SHARE = 4, 0.15
log = logging.getLogger("peers")


def open_cohort(folder: Path, cohort: Path | None, cases: int, seed: int) -> Path:
    """The cohort and its store, made once; gives the cohort."""
    from fvv.stages.prepare import prepare  # noqa: PLC0415
    from fvv.stages.simulate import simulate  # noqa: PLC0415

    config = load_config(PACKAGED["model"])
    if cohort is None:
        cohort = folder / "input_data"
        simulate(cohort, config.simulate.model_copy(update={"cases": cases, "seed": seed}))
    shares = {"kfolds": KFOLDS, "valid_proportion": VALID_SHARE}
    prepare(cohort, folder / "store", config.prepare.model_copy(update=shares))
    return cohort


def planned(path: Path, peer: str, seconds: Callable[[], float]) -> float:
    """Seconds of a slice, or an iteration, of a peer: measured once."""
    plan: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}
    if peer not in plan:
        plan[peer] = seconds()
        write_text(path, json.dumps(plan, indent=2) + "\n")
    return plan[peer]


@dataclass(frozen=True, slots=True)
class Budget:
    """What every run of a folder has: seconds of processor time for its training steps, and epochs."""

    seconds: float
    epochs: int

    @property
    def of_an_epoch(self) -> float:
        return self.seconds / self.epochs


def run_ours(folder: Path, place: Path, peer: str, seed: int, budget: Budget) -> dict[str, Any]:
    """A peer that fvv trains."""
    epochs = budget.epochs
    about = settings_of(peer, seed, epochs, 1)
    seconds = planned(folder / "plan.json", peer, lambda: measured_apart(seconds_a_slice_here, about.train)[0])
    config = settings_of(peer, seed, epochs, max(1, round(budget.of_an_epoch / seconds)))
    noted = place / "training.json"
    if not noted.exists():
        resumed = (place / "saved_models").exists()
        _, spent_s, peak_mb = measured_apart(train_here, folder / "store", place, config)
        write_text(noted, json.dumps([None if resumed else spent_s, peak_mb]) + "\n")
    train_s, train_mb = json.loads(noted.read_text())
    if not (place / "bundle" / BUNDLE_FILE).exists():
        measured_apart(convert_here, folder / "store", place, config)
    n, predict_s, predict_mb = measured_apart(predict_here, folder / "store", place)
    measured_apart(evaluate_here, folder / "store", place)
    amount = f"{epochs} x {config.train.slices_per_epoch} slices"
    return _costs(amount, train_s, train_mb, predict_s / n, predict_mb)


def run_nnunet(folder: Path, place: Path, peer: str, cohort: Path, budget: Budget) -> dict[str, Any]:
    """A peer that nnU-Net trains; planning and preprocessing are shared and not counted."""
    work, configuration = folder / "nnunet", PEERS[peer].nnunet
    measured_apart(nnunet.plan, cohort, folder / "store", work, configuration)
    seconds = planned(
        folder / "plan.json", peer, lambda: measured_apart(nnunet.seconds_an_iteration, work, configuration)[0]
    )
    epochs = budget.epochs
    iterations = nnunet.iterations_of(seconds, budget.of_an_epoch)
    _, train_s, train_mb = measured_apart(nnunet.train, work, configuration, epochs, iterations)
    n, predict_s, predict_mb = measured_apart(nnunet.predict, work, configuration)
    labels = nnunet.predictions(work, configuration)
    nnunet.score(folder / "store", labels, place / "tested", f"nnU-Net v2 {configuration}", evaluation_settings())
    return _costs(f"{epochs} x {iterations} iterations", train_s, train_mb, predict_s / n, predict_mb)


def _costs(amount: str, train_s: float | None, train_mb: float, predict_s: float, predict_mb: float) -> dict[str, Any]:
    return {
        "training": amount,
        "train, processor s": train_s,
        "train, peak MB": train_mb,
        "predict, processor s an examination": predict_s,
        "predict, peak MB": predict_mb,
    }


def budget_of(path: Path, asked: Budget) -> Budget:
    """The budget of a folder, which all its runs share."""
    kept = Budget(**json.loads(path.read_text())) if path.exists() else asked
    if kept != asked:
        raise SystemExit(f"{path}: the runs here have {kept}, not {asked}; take another folder")
    write_text(path, json.dumps(asdict(kept)) + "\n")
    return kept


def run(options: argparse.Namespace) -> str:
    """Do the runs that are missing, seed by seed; gives the table."""
    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    budget = budget_of(folder / "budget.json", Budget(options.budget, options.epochs))
    cohort = open_cohort(folder, options.input, options.cases, options.cohort_seed)
    for seed in range(options.seeds):
        for peer in options.peers:
            place = folder / "runs" / f"{peer}-seed{seed}"
            if (place / "costs.json").exists():
                continue
            if PEERS[peer].nnunet and seed > 0:
                continue  # It does not fix seeds, and its folders hold one training of a fold.
            log.info("%s, seed %d", peer, seed)
            try:
                if PEERS[peer].nnunet:
                    costs = run_nnunet(folder, place, peer, cohort, budget)
                else:
                    costs = run_ours(folder, place, peer, seed, budget)
                write_text(place / "costs.json", json.dumps(costs, indent=2) + "\n")
            except FvvError as error:  # Such as a model that predicts nothing: the others can still be compared.
                log.warning("%s, seed %d: %s", peer, seed, error)
                write_text(place / REFUSED_FILE, f"{error}\n")
            write_text(folder / "table.md", table(folder))
    return table(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for everything")
    parser.add_argument("--budget", type=float, required=True, help="training of a run, seconds of processor time")
    parser.add_argument("--epochs", type=int, default=30, help="of every run; their length follows from the budget")
    parser.add_argument("--peers", nargs="+", choices=sorted(PEERS), default=list(PEERS), metavar="PEER")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--cases", type=int, default=120, help="simulated examinations, a quarter of them tested")
    parser.add_argument("--cohort-seed", type=int, default=5000)
    parser.add_argument("--input", type=Path, help="labelled patients instead of simulated ones")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    print(run(options))


if __name__ == "__main__":
    main()
