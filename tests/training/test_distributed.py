"""Several processes that train one fold: each its part, together the whole."""

import numpy as np
import pytest
import torch

from fvv.training import dataset
from fvv.training.dataset import SlabSampler, VolumeSampler
from fvv.training.distributed import from_all, rank, torch_device, uses_gpu, world_size
from store_builders import TINY


def slabs(count=10):
    stroke = [[False] * 20, [False] * 5 + [True] * 15]
    return SlabSampler([np.array(slices) for slices in stroke], slab_slices=4, slabs=count, stroke_share=0.5, seed=1)


def as_process(monkeypatch, number, processes):
    monkeypatch.setattr(dataset, "rank", lambda: number)
    monkeypatch.setattr(dataset, "world_size", lambda: processes)


def test_alone_all_is_trivial():
    assert (rank(), world_size(), from_all([1, 2])) == (0, 1, [[1, 2]])


@pytest.mark.parametrize(
    ("cuda", "mps", "asked", "expected"),
    [
        (True, True, "auto", "cuda"),
        (False, True, "auto", "mps"),
        (False, True, "gpu", "mps"),
        (False, True, "cpu", "cpu"),
        (False, False, "auto", "cpu"),
        (True, False, "cpu", "cpu"),
    ],
)
def test_the_device_is_the_gpu_that_is_there(monkeypatch, cuda, mps, asked, expected):
    """No machine with Apple's GPU was at hand: only the choice is tested."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    config = TINY.model_copy(update={"device": asked})
    assert torch_device(config) == expected
    assert uses_gpu(config) == (expected != "cpu")


@pytest.mark.parametrize("processes", [2, 3])
def test_the_slabs_of_all_processes_are_those_of_one_and_as_many_each(monkeypatch, processes):
    parts = []
    for number in range(processes):
        as_process(monkeypatch, number, processes)
        parts.append(list(slabs()))
        assert len(parts[-1]) == len(slabs()) == int(np.ceil(10 / processes))
    as_process(monkeypatch, 0, 1)
    together = [place for places in zip(*parts, strict=True) for place in places]
    assert together[:10] == list(slabs())


def test_every_validation_patient_is_judged_once(monkeypatch):
    judged = []
    for number in range(3):
        as_process(monkeypatch, number, 3)
        judged += list(VolumeSampler([5] * 7))
    assert sorted(judged) == [(patient, 0, 5) for patient in range(7)]
