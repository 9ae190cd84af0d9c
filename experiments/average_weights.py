"""Average the weights that a training started from with those that it ended with, fold by fold.

    python experiments/average_weights.py STORE MODELS/RUN -o MODELS/AVERAGED

A training that goes on from a good model learns the new examinations and forgets some of the old ones; the mean of both
weights often does better than either (Wortsman et al. 2022, doi 10.1109/CVPR52688.2022.00780). The run must have
`train.init`. The statistics of the batch norms are estimated again from its training slabs. OUT is a copy of the run
whose last checkpoints hold the means: give them to `fvv convert --model FOLD=OUT/fold_FOLD/last.ckpt`.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from fvv.config import TrainConfig, load_config
from fvv.errors import FvvError
from fvv.io.store import CaseStore
from fvv.training.dataset import FoldPatients, norm_loader, training_loader
from fvv.training.initial import initial_weights, start_from
from fvv.training.module import SegmentationModule
from fvv.training.norms import changed_images, estimate_norms

_NETWORK = "network."
"""Where a checkpoint has the network's weights."""


def averaged(
    store: CaseStore, fold: int, config: TrainConfig, state: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """The mean of a fold's first weights and its last, the `state` of a checkpoint; counters are those of the end."""
    patients = FoldPatients.from_store(store, store.folds, fold)
    slabs = norm_loader(training_loader(store, patients, config), config.norm_slabs)
    module = SegmentationModule(config, [])
    start_from(module, initial_weights(store, fold, config), slabs)
    first = module.network.state_dict()
    last = {name: state[_NETWORK + name] for name in first}
    both = {name: (first[name] + last[name]) / 2 if last[name].is_floating_point() else last[name] for name in first}
    module.network.load_state_dict(both)
    estimate_norms(module, changed_images(module, slabs))
    return module.network.state_dict()


def average_run(store: CaseStore, run: Path, output: Path) -> None:
    """Copy a run, with the means in its last checkpoints.

    Raises:
        SystemExit: the run did not start from weights, or the output is there.
    """
    if output.exists():
        raise SystemExit(f"error: {output}: is there already: name another folder with -o")
    folds = sorted(run.glob("fold_*"))
    configs = [load_config(fold / "config.yaml").train for fold in folds]
    if not folds or not all(config.init for config in configs):
        raise SystemExit(f"error: {run}: expected the folds of a training that started from weights (train.init)")
    # Under its name only when all folds are done: until then, some would have the weights of the training alone.
    unfinished = output.with_name(f"{output.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(run, unfinished, ignore=shutil.ignore_patterns("*.lock"))
    for fold, config in zip(folds, configs, strict=True):
        path = unfinished / fold.name / "last.ckpt"
        checkpoint = torch.load(path, weights_only=True, map_location="cpu")
        state = checkpoint["state_dict"]
        means = averaged(store, int(fold.name.removeprefix("fold_")), config, state)
        state.update({_NETWORK + name: weights for name, weights in means.items()})
        torch.save(checkpoint, path)
        print(f"{fold.name}: mean of {config.init} and of this training")
    unfinished.rename(output)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path, metavar="STORE", help="prepared examinations that the run trained on")
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of the run, with its folds")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder of the averaged run")
    options = parser.parse_args()
    try:
        average_run(CaseStore.open(options.store), options.run, options.output)
    except FvvError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
