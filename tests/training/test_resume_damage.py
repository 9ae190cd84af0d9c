"""A run is not resumed from a checkpoint that is damaged or that would run code, nor by two processes at once."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from fvv.errors import FvvError, ModelError
from fvv.io.lock import only_writer
from fvv.io.ownership import claim
from fvv.stages.train import train_fold
from fvv.training.checkpoint import read_checkpoint
from store_builders import TINY, write_store


class Trap:
    def __reduce__(self):
        return os.system, ("touch owned",)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", pickle.dumps(Trap())])
def test_a_last_checkpoint_that_is_none(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "store", patients=4)
    last = tmp_path / "models" / "tiny" / "fold_0" / "last.ckpt"
    claim(last.parent, ["last.ckpt", "run.json"])
    last.write_bytes(content)
    with pytest.raises(ModelError, match=r"last\.ckpt"):
        train_fold(tmp_path / "store", tmp_path / "models", 0, TINY)
    assert last.read_bytes() == content
    assert not (tmp_path / "owned").exists()


def test_a_flipped_bit_in_a_checkpoint_is_no_other_weight(tmp_path):
    path = tmp_path / "best.ckpt"
    torch.save({"state_dict": {"network.w": torch.zeros(4096)}}, path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(bytes(data))
    with pytest.raises(ModelError, match="checksum"):
        read_checkpoint(path)


def test_a_fold_that_another_process_trains(tmp_path):
    write_store(tmp_path / "store", patients=4)
    with only_writer(tmp_path / "models" / "tiny" / "fold_0"), pytest.raises(FvvError, match="another fvv process"):
        train_fold(tmp_path / "store", tmp_path / "models", 0, TINY)
