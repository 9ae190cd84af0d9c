"""Temporary files of the graph tools on a disk without room."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from builders import write_onnx
from fvv.errors import ModelError, StoreError

graphs = pytest.importorskip("fvv.training.graphs")


def test_a_temporary_file_that_is_cut_off_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_onnx(tmp_path / "model.onnx")
    load = onnx.load

    def cut_off(path: Path) -> onnx.ModelProto:
        Path(path).write_bytes(Path(path).read_bytes()[:-40])
        return load(path)

    with monkeypatch.context() as patch:
        patch.setattr(onnx, "load", cut_off)
        with pytest.raises(ModelError, match=r"cannot be made: .*TMPDIR") as caught:
            graphs.simplify(source)
    assert caught.value.file == str(source)

    def patients():
        raise StoreError("damaged", file="p.zarr")
        yield

    with pytest.raises(StoreError, match="damaged"):  # What else is wrong keeps its own words.
        graphs.quantise(source, tmp_path / "int8.onnx", patients())
