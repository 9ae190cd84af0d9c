"""Where training slabs and validation volumes come from: the store, or a copy of it in memory."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from fvv.arrays import BoolArray
from fvv.config import TrainConfig
from fvv.data import Channel, FoldPlan, Role
from fvv.errors import TrainingError
from fvv.io.store import CaseRecord, CaseStore
from fvv.io.tables import left_out_of
from fvv.system.parallel import core_count, track
from fvv.training.distributed import rank, torch_device, uses_gpu, world_size
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

Batch: TypeAlias = tuple[Tensor | int, Tensor, Tensor, Tensor]
"""Position of each patient, images, labels, and which channels have labels."""


class Slab(NamedTuple):
    """Supervised slices [start, stop) of the patient at this position in the list."""

    examination: int
    start: int
    stop: int


class SlabDataset(Dataset[Batch]):
    """Slices of patients with their context, from the store or from a copy in memory.

    Args:
        store: the prepared patients.
        patients: by folder name; the position in this mapping stands for the patient everywhere in training.
        preload: read all of them into memory now (14 MB for 30 slices).
        margin: supervised slices beyond each end of a volume that may be asked for.
    """

    def __init__(self, store: CaseStore, patients: Mapping[str, CaseRecord], *, preload: bool, margin: int = 0) -> None:
        self.store = store
        self.patients = tuple(patients)
        self.margin = margin + CONTEXT_SLICES
        self._known = [torch.tensor([channel in record.known for channel in Channel]) for record in patients.values()]
        self._loaded: list[tuple[Tensor, Tensor]] = []
        if preload:
            slices = enumerate(record.n_slices for record in patients.values())
            volumes = (self._from_store(number, -self.margin, count + self.margin) for number, count in slices)
            self._loaded = list(track(volumes, "Loading patients", len(patients)))

    def __getitem__(self, slab: Slab) -> Batch:
        """The patient's position, images (2, S + 6, H, W) float16, labels (3, S, H, W) and known channels (3,) bool."""
        start, stop = slab.start - CONTEXT_SLICES, slab.stop + CONTEXT_SLICES
        if self._loaded:
            part = slice(start + self.margin, stop + self.margin)
            images, labels = (volume[:, part] for volume in self._loaded[slab.examination])
        else:
            images, labels = self._from_store(slab.examination, start, stop)
        return slab.examination, images, labels[:, CONTEXT_SLICES:-CONTEXT_SLICES], self._known[slab.examination]

    def _from_store(self, patient: int, start: int, stop: int) -> tuple[Tensor, Tensor]:
        images, labels = self.store.read_slab(self.patients[patient], start, stop)
        return torch.from_numpy(images), torch.from_numpy(labels)


@dataclass(eq=False)
class SlabSampler(Sampler[Slab]):
    """Chooses the slabs of an epoch: every patient equally often, slices with and without stroke in a stated share.

    The choice depends on seed and epoch alone: a resumed run sees what an undisturbed one would have seen.

    Attributes:
        has_stroke: for each patient, (slices,) bool, whether each slice holds stroke.
        slab_slices: supervised slices of a slab.
        slabs: slabs in an epoch.
        stroke_share: share of slabs placed around a slice with stroke, in patients that have one.
        seed: of the choice.
        epoch: 0-based.
    """

    has_stroke: Sequence[BoolArray]
    slab_slices: int
    slabs: int
    stroke_share: float
    seed: int
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Slabs of this process; the same for all."""
        return math.ceil(self.slabs / world_size())

    def __iter__(self) -> Iterator[Slab]:
        """This process's part of the epoch: every n-th slab, where n processes train together."""
        return islice(self.draw(len(self) * world_size()), rank(), None, world_size())

    def draw(self, slabs: int) -> Iterator[Slab]:
        """The first slabs of the epoch, of all processes."""
        random = np.random.default_rng((self.seed, self.epoch))
        drawn = 0
        while drawn < slabs:
            for patient in random.permutation(len(self.has_stroke))[: slabs - drawn]:
                start = self._start(self.has_stroke[patient], random)
                yield Slab(int(patient), start, start + self.slab_slices)
                drawn += 1

    def _start(self, has_stroke: BoolArray, random: np.random.Generator) -> int:
        wanted = bool(random.random() < self.stroke_share)
        candidates = np.flatnonzero(has_stroke == wanted)
        if candidates.size == 0:
            candidates = np.arange(has_stroke.size)
        # The slice lies anywhere in the slab, but the slab stays inside the volume where it fits.
        start = int(random.choice(candidates)) - int(random.integers(self.slab_slices))
        return min(max(start, 0), max(has_stroke.size - self.slab_slices, 0))


@dataclass(eq=False)
class VolumeSampler(Sampler[Slab]):
    """The whole volumes of this process: every n-th patient, where n processes train together.

    Attributes:
        n_slices: of each patient.
    """

    n_slices: Sequence[int]

    def __len__(self) -> int:
        return len(range(rank(), len(self.n_slices), world_size()))

    def __iter__(self) -> Iterator[Slab]:
        for patient in range(rank(), len(self.n_slices), world_size()):
            yield Slab(patient, 0, self.n_slices[patient])


@dataclass(frozen=True, slots=True)
class FoldPatients:
    """Who trains and who selects the checkpoint in one fold, by folder name."""

    training: Mapping[str, CaseRecord]
    validation: Mapping[str, CaseRecord]

    @classmethod
    def from_store(cls, store: CaseStore, plan: FoldPlan, fold: int) -> FoldPatients:
        """Read a fold's patients.

        Those of whom no lesion mask is known, neither of the stroke nor of its FLAIR-visible part, train nobody: they
        would spend steps on the brain alone. They validate all the same, by their reader's label.

        Raises:
            TrainingError: nobody to train on, or to select the checkpoint by.
        """
        training, validation = (
            {patient: store.record(patient) for patient in plan.participants(fold, role)}
            for role in (Role.TRAIN, Role.VALID)
        )
        if not validation:
            raise TrainingError(
                f"fold {fold} has no validation patient to choose the checkpoint by{left_out_of(store.path)}",
                file=store.path,
                hint="prepare with a larger --valid-proportion, or edit the split file",
            )
        teaching = {patient: record for patient, record in training.items() if record.teaches_lesions}
        for what, records in (("training", teaching), ("validation", validation)):
            if not any(record.teaches_lesions for record in records.values()):
                raise TrainingError(
                    f"fold {fold} has no {what} patient with a lesion mask",
                    file=store.path,
                    hint="outline some of them, or edit the split file",
                )
        if len(teaching) < len(training):
            log.warning("%d patients without any lesion mask do not train", len(training) - len(teaching))
        return cls(teaching, validation)


def training_loader(store: CaseStore, patients: FoldPatients, config: TrainConfig) -> DataLoader[Batch]:
    """Batches of slabs: patients (B,), images (B, 2, S + 6, H, W) float16, labels (B, 3, S, H, W), known (B, 3).

    Where the stroke is unknown, slices with a FLAIR-visible part stand for those with stroke.
    """
    sampler = SlabSampler(
        [
            np.array(record.stroke_voxels if Channel.STROKE in record.known else record.flair_visible_voxels) > 0
            for record in patients.training.values()
        ],
        slab_slices=config.slab_slices,
        slabs=math.ceil(config.slices_per_epoch / config.slab_slices),
        stroke_share=config.stroke_share,
        seed=config.seed,
    )
    dataset = SlabDataset(store, patients.training, preload=config.preload_ram, margin=config.slab_slices)
    return _loader(
        dataset, sampler, config.batch_slabs, loader_processes(config), pin_memory=torch_device(config) == "cuda"
    )


def norm_loader(training: DataLoader[Batch], slabs: int) -> DataLoader[Batch]:
    """Batches of the same training slabs each time, in every process: for the statistics of batch norm."""
    sampler = cast(SlabSampler, training.sampler)
    return _loader(training.dataset, list(sampler.draw(slabs)), training.batch_size, 0)


def validation_loader(store: CaseStore, patients: FoldPatients, config: TrainConfig) -> DataLoader[Batch]:
    """Whole patients one by one, in the order of the split file: position, images (2, Z + 6, H, W), labels, known."""
    dataset = SlabDataset(store, patients.validation, preload=config.preload_ram)
    sampler = VolumeSampler([record.n_slices for record in patients.validation.values()])
    return _loader(dataset, sampler, None, min(loader_processes(config), VALIDATION_WORKERS))


def _loader(
    dataset: Dataset[Batch],
    sampler: Sampler[Slab] | Sequence[Slab],
    batch_size: int | None,
    processes: int,
    *,
    pin_memory: bool = False,
) -> DataLoader[Batch]:
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        pin_memory=pin_memory,
        num_workers=processes,
        persistent_workers=processes > 0,
        # zarr runs threads, and a forked copy of a process with threads can hang.
        multiprocessing_context="spawn" if processes else None,
    )


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
            "%s has room for %d of %d loader processes (%.0f MB free)%s. A container gets more with --shm-size",
            _SHARED_MEMORY,
            fitting,
            wanted,
            room / 1e6,
            "" if fitting else ": the training process loads by itself",
        )
    return fitting
