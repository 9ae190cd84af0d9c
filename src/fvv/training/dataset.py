"""Where training slabs and validation volumes come from: the store, or a copy of it in memory."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fvv.config import TrainConfig
from fvv.data import FoldPlan, Role
from fvv.errors import TrainingError
from fvv.io.store import CaseRecord, CaseStore
from fvv.system.parallel import core_count, track
from fvv.training.distributed import rank, uses_gpu, world_size
from fvv.training.network import CONTEXT_SLICES

MOST_WORKERS = 16
"""Loader processes of a fold where their number is left to us: each holds half a gigabyte."""
VALIDATION_WORKERS = 2
"""Enough for whole patients, which are read in one piece."""
GRID = 256
"""Edge of the in-plane grid, voxels."""
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - nothing of ours is written there by name
_BATCHES_OF_A_LOADER = 3
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SlabPlace:
    """Where a slab lies: supervised slices [start, start + slab_slices) of the patient at this position in the list."""

    patient: int
    start: int


class SlabReader:
    """Reads slices of patients from the store, or from memory once they are loaded.

    Args:
        store: the prepared patients.
        patients: folder names; the position in this list stands for the patient everywhere in training.
        preload: read all of them into memory now (14 MB for 30 slices).
        margin: slices beyond each end of a volume that may be asked for.
    """

    def __init__(self, store: CaseStore, patients: Sequence[str], *, preload: bool, margin: int) -> None:
        self.store = store
        self.patients = tuple(patients)
        self.margin = margin
        self.n_slices = tuple(store.record(patient).n_slices for patient in patients)
        self._loaded: list[tuple[Tensor, Tensor]] = []
        if preload:
            places = track(range(len(self.patients)), "Loading patients", len(self.patients))
            self._loaded = [self._from_store(number, -margin, self.n_slices[number] + margin) for number in places]

    def read(self, patient: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        """Slices [start, stop): images (2, stop - start, H, W) float16 and labels (3, stop - start, H, W) bool."""
        if not self._loaded:
            return self._from_store(patient, start, stop)
        images, labels = self._loaded[patient]
        first, last = start + self.margin, stop + self.margin
        return images[:, first:last], labels[:, first:last]

    def _from_store(self, patient: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        images, labels = self.store.read_slab(self.patients[patient], start, stop)
        return torch.from_numpy(images), torch.from_numpy(labels)


class SlabDataset(Dataset[tuple[Tensor, Tensor]]):
    """Training slabs: images with their context, labels of the supervised slices only."""

    def __init__(self, reader: SlabReader, slab_slices: int) -> None:
        self.reader = reader
        self.slab_slices = slab_slices

    def __getitem__(self, place: SlabPlace) -> tuple[Tensor, Tensor]:
        """Images (2, S + 6, H, W) float16, labels (3, S, H, W) bool."""
        stop = place.start + self.slab_slices
        images, labels = self.reader.read(place.patient, place.start - CONTEXT_SLICES, stop + CONTEXT_SLICES)
        return images, labels[:, CONTEXT_SLICES:-CONTEXT_SLICES]


class VolumeDataset(Dataset[tuple[int, Tensor, Tensor]]):
    """Whole validation patients, with 3 slices of padding at each end of the images."""

    def __init__(self, reader: SlabReader) -> None:
        self.reader = reader

    def __len__(self) -> int:
        return len(self.reader.patients)

    def __getitem__(self, patient: int) -> tuple[int, Tensor, Tensor]:
        """The patient's position, images (2, Z + 6, H, W) float16, labels (3, Z, H, W) bool."""
        stop = self.reader.n_slices[patient]
        images, labels = self.reader.read(patient, -CONTEXT_SLICES, stop + CONTEXT_SLICES)
        return patient, images, labels[:, CONTEXT_SLICES:-CONTEXT_SLICES]


class SlabSampler(Sampler[SlabPlace]):
    """Draws the slabs of an epoch: every patient equally often, slices with and without stroke in a stated share.

    The draw depends on seed and epoch alone: a resumed run sees what an undisturbed one would have seen.

    Args:
        has_stroke: for each patient, whether each slice holds stroke.
        slab_slices: supervised slices of a slab.
        slabs: slabs in an epoch.
        stroke_share: share of slabs drawn around a slice with stroke, in patients that have one.
        seed: of the draw.
    """

    def __init__(
        self,
        has_stroke: Sequence[Sequence[bool]],
        *,
        slab_slices: int,
        slabs: int,
        stroke_share: float,
        seed: int,
    ) -> None:
        self.has_stroke = tuple(np.asarray(slices, dtype=bool) for slices in has_stroke)
        self.slab_slices = slab_slices
        self.slabs = slabs
        self.stroke_share = stroke_share
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Slabs of this process; the same for all."""
        return math.ceil(self.slabs / world_size())

    def __iter__(self) -> Iterator[SlabPlace]:
        """This process's part of the draw: every n-th slab, where n processes train together."""
        return islice(self.draw(len(self) * world_size()), rank(), None, world_size())

    def draw(self, slabs: int) -> Iterator[SlabPlace]:
        """The first slabs of the epoch, of all processes."""
        random = np.random.default_rng((self.seed, self.epoch))
        drawn = 0
        while drawn < slabs:
            for patient in random.permutation(len(self.has_stroke))[: slabs - drawn]:
                yield SlabPlace(int(patient), self._start(self.has_stroke[patient], random))
                drawn += 1

    def _start(self, has_stroke: np.ndarray, random: np.random.Generator) -> int:
        wanted = bool(random.random() < self.stroke_share)
        candidates = np.flatnonzero(has_stroke == wanted)
        if candidates.size == 0:
            candidates = np.arange(has_stroke.size)
        # The slice lies anywhere in the slab, but the slab stays inside the volume where it fits.
        start = int(random.choice(candidates)) - int(random.integers(self.slab_slices))
        return min(max(start, 0), max(has_stroke.size - self.slab_slices, 0))


class PatientSampler(Sampler[int]):
    """The validation patients of this process: every n-th, where n processes train together.

    Args:
        patients: how many there are.
    """

    def __init__(self, patients: int) -> None:
        self.patients = patients

    def __len__(self) -> int:
        return len(self._part())

    def __iter__(self) -> Iterator[int]:
        return iter(self._part())

    def _part(self) -> range:
        return range(rank(), self.patients, world_size())


@dataclass(frozen=True, slots=True)
class FoldPatients:
    """Who trains and who selects the checkpoint in one fold, with what is known of each."""

    training: tuple[str, ...]
    validation: tuple[str, ...]
    training_records: tuple[CaseRecord, ...]
    validation_records: tuple[CaseRecord, ...]

    @classmethod
    def from_store(cls, store: CaseStore, plan: FoldPlan, fold: int) -> FoldPatients:
        """Read a fold's patients.

        Raises:
            TrainingError: nobody to select the checkpoint by.
        """
        training, validation = (plan.participants(fold, role) for role in (Role.TRAIN, Role.VALID))
        if not validation:
            raise TrainingError(
                f"fold {fold} has no validation patient to choose the checkpoint by",
                file=store.path,
                hint="prepare with a larger --valid_proportion, or edit the split file",
            )
        return cls(
            training,
            validation,
            tuple(store.record(patient) for patient in training),
            tuple(store.record(patient) for patient in validation),
        )


def training_loader(store: CaseStore, patients: FoldPatients, config: TrainConfig) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of slabs: images (B, 2, S + 6, H, W) float16, labels (B, 3, S, H, W) bool."""
    margin = CONTEXT_SLICES + config.slab_slices
    reader = SlabReader(store, patients.training, preload=config.preload_ram, margin=margin)
    sampler = SlabSampler(
        [[voxels > 0 for voxels in record.stroke_voxels] for record in patients.training_records],
        slab_slices=config.slab_slices,
        slabs=-(-config.slices_per_epoch // config.slab_slices),
        stroke_share=config.stroke_share,
        seed=config.seed,
    )
    dataset = SlabDataset(reader, config.slab_slices)
    return DataLoader(
        dataset,
        batch_size=config.batch_slabs,
        sampler=sampler,
        pin_memory=uses_gpu(config),
        **_workers(loader_processes(config)),
    )


def norm_loader(training: DataLoader[tuple[Tensor, Tensor]], slabs: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of the same training slabs each time, in every process: for the statistics of batch norm."""
    sampler = cast(SlabSampler, training.sampler)
    return DataLoader(training.dataset, batch_size=training.batch_size, sampler=list(sampler.draw(slabs)))


def validation_loader(
    store: CaseStore, patients: FoldPatients, config: TrainConfig
) -> DataLoader[tuple[int, Tensor, Tensor]]:
    """Whole patients, one at a time, in the order of the split file."""
    sampler = PatientSampler(len(patients.validation))
    reader = SlabReader(store, patients.validation, preload=config.preload_ram, margin=CONTEXT_SLICES)
    processes = min(loader_processes(config), VALIDATION_WORKERS)
    return DataLoader(VolumeDataset(reader), batch_size=None, sampler=sampler, **_workers(processes))


def loader_processes(config: TrainConfig) -> int:
    """Processes that read training slabs for one fold; 0: the one that trains."""
    if config.preload_ram:
        return 0
    if config.workers is not None:
        return config.workers
    if not uses_gpu(config):
        return 0
    return max(1, min(core_count() // (config.jobs * config.devices), MOST_WORKERS))


def loaders_that_fit(config: TrainConfig) -> int:
    """Loader processes of a fold: as many as the settings ask for, or as find room in shared memory, where batches lie.

    Their number changes no weight.
    """
    wanted = loader_processes(config)
    if wanted == 0 or not _SHARED_MEMORY.is_dir():
        return wanted
    room = shutil.disk_usage(_SHARED_MEMORY).free // config.jobs
    # float16 images of two channels and labels of three; two batches waiting in each process and one in use.
    slab = GRID * GRID * (4 * (config.slab_slices + 2 * CONTEXT_SLICES) + 3 * config.slab_slices)
    fitting = int(min(wanted, room // (_BATCHES_OF_A_LOADER * config.batch_slabs * slab)))
    if fitting < wanted:
        log.warning(
            "%s has room for the batches of %d of %d loader processes (%.0f MB free): %s. A container gets more with "
            "--shm-size",
            _SHARED_MEMORY,
            fitting,
            wanted,
            room / 1e6,
            f"{fitting} are used" if fitting else "the training process loads by itself",
        )
    return fitting


def _workers(processes: int) -> dict[str, Any]:
    if processes == 0:
        return {"num_workers": 0}
    # spawn: zarr runs threads, and a forked copy of a process with threads can hang.
    return {"num_workers": processes, "persistent_workers": True, "multiprocessing_context": "spawn"}
