"""Side by side with the field: one cohort, one split, one processor, equal time to train.

    python experiments/peers/run.py -o peers --budget 7200 [--peers ours reference ...] [--seeds 1] [--cases 120]
        [--input COHORT]

simulates a cohort with the settings of the model in the package (or takes a labelled one), prepares it, and for each
peer and seed: times its training steps, plans so many slices that they take the budget (seconds of processor time, one
thread), trains the first fold, and tests it on that fold's test examinations, which neither train nor select. Each
part runs in a process of its own, whose processor time and peak memory are noted. FOLDER/table.md has the results of
all runs there; the same command resumes where it stopped. Peers:

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
import math
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nnunet
import numpy as np

from fvv.analysis.marker import marker_data
from fvv.analysis.statistics import Bootstrap
from fvv.cli.settings import PACKAGED
from fvv.config import Config, ConvertConfig, EvaluateConfig, PostprocessConfig, TrainConfig, load_config
from fvv.data import Channel, Role
from fvv.io.atomic import write_text
from fvv.io.bundle import ModelBundle
from fvv.io.evaluation import EvaluationFolder
from fvv.io.store import CaseStore
from fvv.schemas.patient import PatientResult
from fvv.schemas.summary import Estimate, Summary

FOLD, KFOLDS, VALID_SHARE = 0, 4, 0.15
TIMED_SLABS = 2
"""Slabs in a timed training step: the time of a slice hardly depends on their number, and memory does."""
FIRST_PEER = "ours"
"""The AUC of the others is compared with that of this one."""
log = logging.getLogger("peers")


@dataclass(frozen=True, slots=True)
class Peer:
    """What is trained, by fvv or, with a configuration of it, by nnU-Net."""

    settings: str = "model"
    changes: Mapping[str, Any] = field(default_factory=dict)
    nnunet: str = ""


PEERS = {
    "ours": Peer(),
    "ours-full": Peer(changes={"train.network.resolution": "full"}),
    "reference": Peer("reference", {"train.network.module": "reference_network:ReferenceNetwork"}),
    "segresnet": Peer(changes={"train.network.module": "plain_network:PlainNetwork"}),
    "nnunet-2d": Peer(nnunet="2d"),
    "nnunet-3d": Peer(nnunet="3d_fullres"),
}


def settings_of(peer: str, seed: int, epochs: int, slices: int) -> Config:
    """All settings of a run that fvv trains."""
    about = PEERS[peer]
    run = {
        "train.name": f"{peer}-seed{seed}",
        "train.seed": seed,
        "train.epochs": epochs,
        "train.slices_per_epoch": slices,
        "train.jobs": 1,
        "train.workers": 0,
        "train.precision": "32",
        "train.device": "cpu",
        "train.wandb_mode": "disabled",
        "train.figures_every_epochs": max(epochs, 1),
    }
    return load_config(PACKAGED[about.settings], {**about.changes, **run})


def evaluation_settings() -> EvaluateConfig:
    return EvaluateConfig(heatmaps=False, postprocess=PostprocessConfig(), compute={"threads": 1, "workers": 1})


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


# Every function below that is called `*_here` runs in a process of its own.


def measured_apart(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Run a function in a process of its own; gives its result, processor seconds, and peak memory in MB."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(_measured_here, function, arguments).result()


def _measured_here(function: Callable[..., Any], arguments: Sequence[Any]) -> tuple[Any, float, float]:
    result = function(*arguments)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(one.ru_utime + one.ru_stime for one in used)
    return result, seconds, max(one.ru_maxrss for one in used) / 1024


def seconds_a_slice_here(config: TrainConfig) -> float:
    """Processor time of training for one supervised slice: augment, forward, backward, Adam; the best of three."""
    import torch  # noqa: PLC0415

    from fvv.training.augment import apply_changes, draw_changes  # noqa: PLC0415
    from fvv.training.losses import loss_of  # noqa: PLC0415
    from fvv.training.network import CONTEXT_SLICES, network_of  # noqa: PLC0415

    torch.set_num_threads(1)
    torch.manual_seed(0)
    network, loss = network_of(config.network), loss_of(config.loss)
    optimizer = torch.optim.Adam(network.parameters())
    slabs = min(config.batch_slabs, TIMED_SLABS)
    images = torch.randn(slabs, 2, config.slab_slices + 2 * CONTEXT_SLICES, 256, 256)
    labels = torch.rand(slabs, 3, config.slab_slices, 256, 256) > 0.5
    changes = draw_changes(config.augment, slabs, torch.Generator().manual_seed(0))
    times = []
    for _ in range(3):
        started = time.process_time()
        changed, masks = apply_changes(images, labels, changes)
        optimizer.zero_grad()
        loss(network(changed), masks, config.loss, None).total.backward()
        optimizer.step()
        times.append(time.process_time() - started)
    return min(times) / (slabs * config.slab_slices)


def train_here(store: Path, place: Path, config: Config) -> None:
    """Train the fold; a killed training goes on."""
    import torch  # noqa: PLC0415

    from fvv.stages.train import train_fold  # noqa: PLC0415

    torch.set_num_threads(1)
    train_fold(store, place / "saved_models", FOLD, config.train)


def convert_here(store: Path, place: Path, config: Config) -> None:
    """From the best checkpoint to a bundle of one model."""
    from fvv.stages.convert import convert  # noqa: PLC0415

    (checkpoint,) = (place / "saved_models").rglob("best.ckpt")
    named = {"name": config.train.name, "network": config.train.network.module}
    convert(checkpoint, store, place / "bundle", ConvertConfig(check_patients=1), **named)


def predict_here(store: Path, place: Path) -> int:
    """Segment the fold's test examinations, prepared as they are stored; gives their number."""
    from fvv.inference.ensemble import OnnxEnsemble  # noqa: PLC0415
    from fvv.recipes.segment import segment_case  # noqa: PLC0415

    cases, bundle = CaseStore.open(store), ModelBundle.open(place / "bundle")
    models = OnnxEnsemble.from_bundle(bundle, threads=1)
    names = cases.folds.participants(FOLD, Role.TEST)
    for name in names:
        segment_case(cases.read(name), models, PostprocessConfig())
    return len(names)


def evaluate_here(store: Path, place: Path) -> None:
    """Test, out of fold."""
    from fvv.stages.evaluate import evaluate  # noqa: PLC0415

    evaluate(store, place / "bundle", place / "tested", evaluation_settings())


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
    resumed = (place / "saved_models").exists()
    _, train_s, train_mb = measured_apart(train_here, folder / "store", place, config)
    if not (place / "bundle").exists():
        measured_apart(convert_here, folder / "store", place, config)
    n, predict_s, predict_mb = measured_apart(predict_here, folder / "store", place)
    measured_apart(evaluate_here, folder / "store", place)
    amount = f"{epochs} x {config.train.slices_per_epoch} slices"
    return _costs(amount, None if resumed else train_s, train_mb, predict_s / n, predict_mb)


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


def numbers(summary: Summary) -> dict[str, float]:
    """What the table shows of one evaluation."""
    found = {f"{channel.title} Dice": summary.of(channel).dice_mean.value for channel in Channel}
    found |= {f"lesions {row.size}, found": row.found.value for row in summary.stroke.lesions_by_size}
    return found | {"FVV, Spearman": summary.flair_visible.volume.rank.value, "AUC": summary.marker.auc.value}


def auc_gain(ours: Sequence[PatientResult], theirs: Sequence[PatientResult]) -> Estimate:
    """AUC of their FVV minus that of ours, on the examinations that both measured."""
    sides = []
    for patients in (theirs, ours):
        data = marker_data(patients, EvaluateConfig().visible_fraction_label)
        names = [patients[index].examination_id for index in data.used]
        sides.append(dict(zip(names, zip(data.fvv_ml, data.mismatch, data.persons, strict=True), strict=True)))
    common = sorted(set(sides[0]) & set(sides[1]))
    first, second = (np.array([side[name][0] for name in common], dtype=float) for side in sides)
    mismatch = np.array([sides[1][name][1] for name in common], dtype=bool)
    persons = np.array([sides[1][name][2] for name in common])
    bootstrap = Bootstrap(2000, np.random.default_rng(0))
    return bootstrap.auc_difference(first, second, mismatch, persons, np.zeros(len(common), dtype=int))


def table(folder: Path) -> str:
    """Markdown: a column for each peer, mean and range over its seeds; intervals are those of its first seed."""
    runs: dict[str, list[Path]] = {}
    for costs in sorted(folder.glob("runs/*/costs.json")):
        runs.setdefault(costs.parent.name.rpartition("-seed")[0], []).append(costs.parent)
    peers = [peer for peer in PEERS if peer in runs]
    read = {peer: [EvaluationFolder(place / "tested").read_finished() for place in runs[peer]] for peer in peers}
    costs_of = {peer: [json.loads((place / "costs.json").read_text()) for place in runs[peer]] for peer in peers}
    rows: dict[str, list[str]] = {"seeds": [str(len(runs[peer])) for peer in peers]}
    rows["examinations"] = [str(len(read[peer][0][1])) for peer in peers]
    for peer in peers:
        shown = [numbers(summary) for summary, _ in read[peer]]
        if PEERS[peer].nnunet:
            shown = [one | {f"{Channel.BRAIN.title} Dice": math.nan} for one in shown]
        for name in shown[0]:
            rows.setdefault(name, []).append(_cell([one[name] for one in shown], 3))
        auc = read[peer][0][0].marker.auc
        rows.setdefault("AUC, 95 %", []).append(_interval(auc))
        gain = None
        if FIRST_PEER in read and peer != FIRST_PEER:
            gain = auc_gain(read[FIRST_PEER][0][1], read[peer][0][1])
        rows.setdefault(f"AUC minus that of {FIRST_PEER}, 95 %", []).append("" if gain is None else _interval(gain))
        rows.setdefault("training", []).append(costs_of[peer][0]["training"])
        for name, value in costs_of[peer][0].items():
            if name != "training":
                values = [one[name] for one in costs_of[peer] if one[name] is not None]
                rows.setdefault(name, []).append(_cell(values, 1) if value is not None else "resumed")
    lines = [["", *peers], ["---"] * (len(peers) + 1), *([name, *cells] for name, cells in rows.items())]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _cell(values: Sequence[float], decimals: int) -> str:
    known = [value for value in values if not math.isnan(value)]
    if not known:
        return "not defined"
    mean = f"{sum(known) / len(known):.{decimals}f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):.{decimals}f} to {max(known):.{decimals}f})"


def _interval(one: Estimate) -> str:
    return "not defined" if math.isnan(one.value) else f"{one.value:.3f} [{one.low:.3f} to {one.high:.3f}]"


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
            if PEERS[peer].nnunet:
                costs = run_nnunet(folder, place, peer, cohort, budget)
            else:
                costs = run_ours(folder, place, peer, seed, budget)
            write_text(place / "costs.json", json.dumps(costs, indent=2) + "\n")
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
