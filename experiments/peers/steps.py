"""The steps of a run, each in a process of its own, whose processor time and memory are noted."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from peers import FOLD, evaluation_settings

from fvv.config import Config, ConvertConfig, PostprocessConfig, TrainConfig
from fvv.data import Role
from fvv.io.bundle import ModelBundle
from fvv.io.store import CaseStore

TIMED_SLABS = 2
"""Slabs in a timed training step: the time of a slice hardly depends on their number, and memory does."""


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
