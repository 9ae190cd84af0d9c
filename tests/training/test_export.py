"""Export to ONNX; that the result agrees with PyTorch is tested with the conversion (tests/stages/test_convert.py)."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from builders import write_onnx
from fvv.errors import ModelError

export = pytest.importorskip("fvv.training.export")


def test_a_temporary_file_that_is_cut_off_is_one_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_onnx(tmp_path / "model.onnx")
    load = onnx.load

    def cut_off(path: Path) -> onnx.ModelProto:
        Path(path).write_bytes(Path(path).read_bytes()[:-40])
        return load(path)

    with monkeypatch.context() as patch:
        patch.setattr(onnx, "load", cut_off)
        with pytest.raises(ModelError, match=r"cannot be made: .*TMPDIR") as caught:
            export.simplify(source)
    assert caught.value.file == str(source)
