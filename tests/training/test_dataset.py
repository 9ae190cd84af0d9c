"""Slabs and volumes as the network gets them, and which slabs an epoch draws."""

from collections import Counter

import numpy as np
import pytest
import torch

from fvv.config import TrainConfig
from fvv.data import Failure, FoldPlan, FoldRow, Role
from fvv.errors import TrainingError
from fvv.io.tables import FAILURES_FILE, write_failures
from fvv.training import dataset
from fvv.training.dataset import (
    FoldPatients,
    Slab,
    SlabDataset,
    SlabSampler,
    loader_processes,
    training_loader,
    validation_loader,
)
from store_builders import write_store


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("data") / "store", patients=4)


def sampler(stroke_share: float = 0.5, seed: int = 0) -> SlabSampler:
    stroke = [[False] * 20 + [True] * 4, [False] * 30, [True] * 5]
    return SlabSampler(
        [np.array(slices) for slices in stroke], slab_slices=8, slabs=60, stroke_share=stroke_share, seed=seed
    )


def test_a_draw_depends_on_seed_and_epoch_alone():
    first, same, other = sampler(), sampler(), sampler(seed=1)
    list(first)
    assert list(first) == list(same)
    assert list(first) != list(other)
    same.set_epoch(1)
    assert list(first) != list(same)
    first.set_epoch(1)
    assert list(first) == list(same)


def test_patients_are_drawn_equally_often():
    assert Counter(place.examination for place in sampler()) == {0: 20, 1: 20, 2: 20}


def test_slabs_lie_inside_the_volume_where_they_fit():
    places = list(sampler())
    assert {place.start for place in places if place.examination == 2} == {0}  # five slices, eight wanted
    assert all(0 <= place.start <= 16 for place in places if place.examination == 0)
    assert len({place.start for place in places if place.examination == 1}) > 5


@pytest.mark.parametrize(("share", "expected"), [(1.0, 20), (0.0, 0)])
def test_stroke_share_says_how_often_a_slab_is_drawn_around_stroke(share, expected):
    reach = [place.start + 8 > 20 for place in sampler(share) if place.examination == 0]
    # Without stroke wanted, a slab may still reach into it by chance.
    assert sum(reach) == expected or (share == 0.0 and sum(reach) < 10)


@pytest.mark.parametrize("preload", [False, True])
def test_a_slab_holds_its_context_and_labels_of_its_own_slices(store, preload):
    records = {patient: store.record(patient) for patient in store.participants}
    patient, images, labels, known = SlabDataset(store, records, preload=preload, margin=4)[Slab(1, 0, 4)]
    expected_images, expected_labels = store.read_slab(store.participants[1], -3, 7)
    assert patient == 1
    assert known.all()
    assert images.dtype == torch.float16
    assert torch.equal(images, torch.from_numpy(expected_images))
    assert torch.equal(labels, torch.from_numpy(expected_labels[:, 3:7]))
    pad = store.record(store.participants[1]).pad_value
    assert (images[:, :3] == pad).all()
    assert not (images[:, 3:] == pad).all()


def test_a_volume_is_the_whole_patient_padded_by_three(store):
    records = {patient: store.record(patient) for patient in store.participants}
    loader = validation_loader(store, FoldPatients(records, records), TrainConfig())
    number, images, labels, _ = list(loader)[2]
    case = store.read(store.participants[2])
    assert number == 2
    assert images.shape == (2, 12, 256, 256)
    assert torch.equal(images[0, 3:-3], torch.from_numpy(case.b1000).permute(2, 0, 1))
    assert torch.equal(images[1, 3:-3], torch.from_numpy(case.b0).permute(2, 0, 1))
    assert torch.equal(labels[1], torch.from_numpy(case.stroke).permute(2, 0, 1))


def test_loader_gives_the_slices_asked_for(store):
    patients = FoldPatients.from_store(store, store.folds, 0)
    config = TrainConfig(slices_per_epoch=10, slab_slices=4, batch_slabs=2)
    batches = list(training_loader(store, patients, config))
    assert [tuple(labels.shape) for _, _, labels, _ in batches] == [(2, 3, 4, 256, 256), (1, 3, 4, 256, 256)]


def test_a_fold_without_validation_patient_is_refused(store):
    roles = {0: Role.TEST}
    rows = tuple(
        FoldRow(name, name, (roles.get(number, Role.TRAIN),)) for number, name in enumerate(store.participants)
    )
    with pytest.raises(TrainingError, match="no validation patient"):
        FoldPatients.from_store(store, FoldPlan(rows), 0)
    failures = store.path / FAILURES_FILE
    write_failures(failures, [Failure("p7", "patient p7: no brain"), Failure("p8", "patient p8: no brain")])
    with pytest.raises(TrainingError, match=r"by; 2 examinations are missing\. 2: no brain \[p7, p8\] \("):
        FoldPatients.from_store(store, FoldPlan(rows), 0)
    failures.unlink()


@pytest.mark.parametrize(
    ("gpu", "settings", "expected"),
    [
        (False, {}, 0),
        (True, {}, 12),
        (True, {"jobs": 3}, 4),
        (True, {"devices": 4, "jobs": 6}, 1),
        (True, {"workers": 0}, 0),
        (True, {"device": "cpu"}, 0),
        (True, {"preload_ram": True}, 0),
        (False, {"workers": 5}, 5),
    ],
)
def test_a_gpu_is_fed_by_all_cores_and_a_cpu_by_itself(monkeypatch, gpu, settings, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(dataset, "core_count", lambda: 12)
    assert loader_processes(TrainConfig(**settings)) == expected
