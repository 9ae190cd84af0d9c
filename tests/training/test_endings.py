"""What ends a training before its time is one line that says what to do, and what was finished stays."""

import errno
from pathlib import Path
from types import SimpleNamespace

import pytest

from fvv.errors import FvvError, StoreError, TrainingError
from fvv.stages.train import train_fold
from fvv.training import dataset
from fvv.training.checkpoint import AtomicCheckpoints, read_checkpoint
from fvv.training.dataset import loaders_that_fit
from fvv.training.endings import clear_endings
from store_builders import TINY, write_store

pytestmark = pytest.mark.usefixtures("plain_trainings")

RUN = SimpleNamespace(folder=Path("models/tiny/fold_0"))
WITH_LOADERS = TINY.model_copy(update={"workers": 2})


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (
            RuntimeError("DataLoader worker (pid 4201) is killed by signal: Killed. "),
            r"fold_0: a loader process died: .*pid 4201.*train\.workers=0.*run the same command again",
        ),
        (
            RuntimeError("DataLoader worker (pid(s) 7, 8) exited unexpectedly"),
            r"a loader process died",
        ),
        (
            RuntimeError("unable to write to file </torch_12_3>: No space left on device (28)"),
            r"no room in shared memory.*--shm-size.*train\.workers=0",
        ),
        (RuntimeError("DataLoader worker (pid 3) is killed by signal: Bus error."), r"no room in shared memory"),
        (MemoryError(), r"memory ran out with batches of 2 slabs"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), r"memory ran out"),
        (OSError(errno.ENOSPC, "No space left on device"), r"fold_0: cannot read or write: No space left on device"),
    ],
)
def test_the_machines_limits_are_one_clear_line(error, expected):
    with pytest.raises(TrainingError, match=expected), clear_endings(RUN, WITH_LOADERS):
        raise error


def test_what_a_loader_says_of_a_damaged_patient_is_said_without_its_traceback():
    said = "Caught StoreError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n File ...\n"
    told = StoreError("damaged: a checksum", examination_id="p1", file="store/cases/p1.zarr", hint="delete this folder")
    with pytest.raises(StoreError) as raised, clear_endings(RUN, WITH_LOADERS):
        raise StoreError(f"{said}fvv.errors.StoreError: {told}\n")
    assert str(raised.value) == str(told)


def test_memory_that_ends_before_the_first_step(tmp_path, monkeypatch):
    def fail(*_):
        raise MemoryError

    write_store(tmp_path / "store", patients=4)
    monkeypatch.setattr("fvv.training.fit.training_loader", fail)
    with pytest.raises(TrainingError, match="memory ran out"):
        train_fold(tmp_path / "store", tmp_path / "models", 0, TINY)


def test_a_disk_that_is_full_keeps_the_checkpoint_before_and_names_the_right_file(tmp_path, monkeypatch):
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"the epoch before")

    def full(self, content):
        with self.open("wb") as stream:
            stream.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with (
        pytest.raises(FvvError, match=r"last\.ckpt: cannot write: No space left.*it resumes"),
        clear_endings(RUN, TINY),
    ):
        AtomicCheckpoints().save_checkpoint({"weights": 1}, path)
    assert path.read_bytes() == b"the epoch before"
    assert [item.name for item in tmp_path.iterdir()] == ["last.ckpt"]


def test_training_stopped_by_a_full_disk_goes_on_when_there_is_room(tmp_path, monkeypatch):
    write_store(tmp_path / "store", patients=4)
    saved, save = [], AtomicCheckpoints.save_checkpoint

    def full(self, checkpoint, path, storage_options=None):
        saved.append(Path(path).name)
        if len(saved) > 2:
            try:
                raise OSError(errno.ENOSPC, "No space left on device")
            except OSError as error:
                raise FvvError("cannot write: No space left on device", file=path) from error
        save(self, checkpoint, path, storage_options)

    with monkeypatch.context() as patch:
        patch.setattr(AtomicCheckpoints, "save_checkpoint", full)
        with pytest.raises(FvvError, match="run the same command again"):
            train_fold(tmp_path / "store", tmp_path / "models", 0, TINY)
    assert read_checkpoint(tmp_path / "models/tiny/fold_0/last.ckpt").epoch == 0
    assert train_fold(tmp_path / "store", tmp_path / "models", 0, TINY).epochs == 2


@pytest.mark.parametrize(("free_mb", "expected"), [(10_000, 4), (90, 1), (1, 0)])
def test_no_more_loaders_than_find_room_in_shared_memory(monkeypatch, tmp_path, caplog, free_mb, expected):
    """A loader of 2 slabs of 16 slices holds 3 batches of 2 x 256 x 256 x (4 x 22 + 3 x 16) bytes: 53 MB."""
    monkeypatch.setattr(dataset, "_SHARED_MEMORY", tmp_path)
    monkeypatch.setattr(dataset.shutil, "disk_usage", lambda _: SimpleNamespace(free=int(free_mb * 1e6)))
    config = TINY.model_copy(update={"workers": 4, "slab_slices": 16, "batch_slabs": 2})
    assert loaders_that_fit(config) == expected
    assert ("--shm-size" in caplog.text) == (expected < 4)
    assert loaders_that_fit(config.model_copy(update={"workers": 0})) == 0
