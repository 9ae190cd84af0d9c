"""Cost of training, in one run: ms per supervised slice of the default network in slabs of 1 + 6 and 16 + 6 slices,
the latter also cropped in plane (`train.crop`), and of the reference's network (`experiments/peers`); then slices a
second from the loader, alone and with the network behind it.

A step is forward, loss, backward and Adam, on random input; neither loading nor augmentation. Each line is measured in
a process of its own, whose peak memory it shows. The processor time is that of all threads, and hardly changes when
the machine has other work; the wall time does. The best of `--steps` steps counts.

    python benchmarks/training.py [--steps 4] [--threads 2]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from make_models import SLAB, ReferenceNetwork, count
from torch import Tensor, nn

from fvv.config import PROFILES, LossConfig, NetworkConfig, TrainConfig
from fvv.data import InPlaneGrid, Participant, PreparedCase
from fvv.io.store import CaseStore
from fvv.training.dataset import FoldPatients, training_loader
from fvv.training.losses import segmentation_loss
from fvv.training.network import CONTEXT_SLICES, SegmentationNetwork

GRID, PATIENTS, SLICES = 256, 4, 30
# name: supervised slices of a slab, slabs in a batch, in-plane size
SLABS = {"1 + 6": (1, 4, (GRID, GRID)), "16 + 6": (16, 2, (GRID, GRID)), "16 + 6, crop": (16, 2, (192, 224))}
REFERENCE = (1, 4, (GRID, GRID))


def default_network() -> nn.Module:
    return SegmentationNetwork(NetworkConfig()).to(memory_format=torch.channels_last)


def one_step(network: nn.Module, images: Tensor, labels: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)

    def step() -> None:
        optimizer.zero_grad()
        segmentation_loss(network(images), labels, LossConfig()).total.backward()
        optimizer.step()

    return step


def measure_step(name: str, steps: int, threads: int) -> tuple[float, float, float]:
    """Processor and wall time in ms per supervised slice, peak memory of this process in GB."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    supervised, batch, edges = SLABS.get(name, REFERENCE)
    network = default_network() if name in SLABS else ReferenceNetwork()
    images = torch.randn(batch, 2, supervised + 2 * CONTEXT_SLICES, *edges)
    labels = torch.rand(batch, 3, supervised, *edges) > 0.5
    step = one_step(network, images, labels)
    step()
    times = []
    for _ in range(steps):
        processor, wall = time.process_time(), time.perf_counter()
        step()
        times.append((time.process_time() - processor, time.perf_counter() - wall))
    processor, wall = (1000 * min(column) / (supervised * batch) for column in zip(*times, strict=True))
    return processor, wall, peak_memory_gb()


def measure_loader(steps: int, threads: int, *, preload: bool, train: bool) -> tuple[float, float, float]:
    """Supervised slices a second of processor and of wall time, peak memory of this process in GB."""
    torch.set_num_threads(threads)
    config = TrainConfig(slices_per_epoch=(steps + 1) * 32, preload_ram=preload)
    with tempfile.TemporaryDirectory() as folder:
        store = random_store(Path(folder) / "store")
        records = {name: store.record(name) for name in (f"p{number}" for number in range(PATIENTS))}
        loader = training_loader(store, FoldPatients(records, records), config)
        network = default_network()
        optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
        slices = 0
        for number, (_, images, labels) in enumerate(loader):
            if number == 1:  # the first batch warms up
                processor, wall = time.process_time(), time.perf_counter()
            slices += labels.shape[0] * labels.shape[2] * (number > 0)
            if train:
                optimizer.zero_grad()
                segmentation_loss(network(images.float()), labels, LossConfig()).total.backward()
                optimizer.step()
        return slices / (time.process_time() - processor), slices / (time.perf_counter() - wall), peak_memory_gb()


def random_store(path: Path) -> CaseStore:
    """Noise in a cube: compresses worse than a head, so reading it is no easier."""
    random = np.random.default_rng(0)
    shape = (GRID, GRID, SLICES)
    brain = np.zeros(shape, dtype=bool)
    brain[50:200, 40:210] = True
    stroke = np.zeros(shape, dtype=bool)
    stroke[100:120, 100:120, 10:15] = True
    grid = InPlaneGrid(shape, np.diag([1.0, 1.0, 5.0, 1.0]), ((0, 1), (1, 1), (2, 1)), 1.0)
    store = CaseStore.create(path, PROFILES["robust-v1"])
    for number in range(PATIENTS):
        b0, b1000 = (np.where(brain, random.normal(size=shape), -2).astype(np.float16) for _ in range(2))
        case = PreparedCase(f"p{number}", b0, b1000, brain, grid, stroke, stroke)
        hashes = {"image_sha256": str(number), "source_sha256": str(number)}
        store.write(case, Participant(f"p{number}", str(number), "site", None), **hashes)
    return store


def peak_memory_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # Linux: kB


def alone(function: Callable[..., tuple[float, float, float]], *args: object, **options: object) -> tuple[float, ...]:
    """Run in a fresh process, so that peak memory is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *args, **options).result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=4, help="timed; the best counts")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    parameters, gflop = count(ReferenceNetwork().eval(), torch.zeros(1, 2, SLAB, GRID, GRID))
    print(f"reference: {parameters:.1f} M parameters, {gflop:.1f} GFLOP a slice; {options.threads} threads\n")
    print(f"{'training step':<28}{'CPU ms/slice':>14}{'wall ms/slice':>15}{'peak GB':>9}{'times slower (CPU)':>20}")
    found = {name: alone(measure_step, name, options.steps, options.threads) for name in (*SLABS, "reference")}
    ours = found["16 + 6"][0]
    for name, (processor, wall, memory) in found.items():
        label = f"default network, {name}" if name in SLABS else "reference, 1 + 6"
        print(f"{label:<28}{processor:>14.1f}{wall:>15.1f}{memory:>9.2f}{processor / ours:>20.2f}")
    print(f"\n{'loader':<28}{'slices/CPU s':>14}{'slices/s':>15}{'peak GB':>9}")
    for label, preload, train in (
        ("from disk, alone", False, False),
        ("from memory, alone", True, False),
        ("from disk, with network", False, True),
    ):
        found_here = alone(measure_loader, options.steps, options.threads, preload=preload, train=train)
        print(f"{label:<28}{found_here[0]:>14.0f}{found_here[1]:>15.0f}{found_here[2]:>9.2f}")


if __name__ == "__main__":
    main()
