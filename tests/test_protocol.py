"""Which volumes are b0 and b1000: one answer by every door."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import AFFINE, head, save
from fvv.config import PredictConfig
from fvv.data import Case
from fvv.io.inputs import find_examinations
from fvv.protocol import average_b0, average_b1000, b0_volumes, b1000_volumes

CONFIG = PredictConfig()


@pytest.mark.parametrize(
    ("b_values", "indices", "others"),
    [
        ([0, 1000, 1005, 5, 2000, 995], (1, 2, 5), ()),
        ([0, 750, 1000, 1250], (2,), (750.0, 1250.0)),
        ([0, 990, 995, 1000, 1005, 1010, 700, 705], (1, 2, 3, 4, 5), (702.5,)),
        ([800, 0, 1200, 1190], (3, 2)[::-1], (800.0,)),
        ([800, 1200], (0,), (1200.0,)),
        ([0, 800], (1,), ()),
        ([0, 650], (1,), ()),
        ([0, 600, 1400], None, None),
        ([float("nan"), 0], None, None),
    ],
)
def test_the_shell_nearest_to_1000_alone(b_values: list[float], indices: tuple[int, ...], others: tuple) -> None:
    shell = b1000_volumes(b_values)
    if indices is None:
        assert shell is None
        return
    assert shell is not None
    assert (shell.indices, shell.others) == (indices, others)
    assert bool(shell.note) is bool(others)
    assert shell.b_value == pytest.approx(np.mean([b_values[index] for index in indices]))


def test_b0_volumes() -> None:
    shell = b0_volumes([0, 1000, 5, 50, 51])
    assert shell is not None
    assert shell.indices == (0, 2, 3)
    assert b0_volumes([1000]) is None


def test_averages() -> None:
    images = [np.full((2, 2, 1), value) for value in (1.0, 4.0)]
    np.testing.assert_allclose(average_b0(iter(images), 2), 2.5)
    np.testing.assert_allclose(average_b1000(iter(images), 2), 2.0)


def write_by_every_door(root: Path, images: dict[str, np.ndarray], b_value: int) -> list[Path]:
    """One acquisition as two files, as one 4D file under both names, in BIDS as one file and as two."""
    together = np.stack([images["b0"], images["b1000"]], axis=-1)
    both = f"0 {b_value}"
    two, one, bids, apart = root / "two", root / "one", root / "bids", root / "apart"
    save(two / "b0.nii.gz", images["b0"])
    save(two / "b1000.nii.gz", images["b1000"])
    (two / "b1000.bval").write_text(str(b_value))
    for name in ("b0", "b1000"):
        save(one / f"{name}.nii.gz", together)
        (one / f"{name}.bval").write_text(both)
    save(bids / "sub-1" / "dwi" / "sub-1_dwi.nii.gz", together)
    (bids / "sub-1" / "dwi" / "sub-1_dwi.bval").write_text(both)
    for name, array, b in (("b0", "b0", 0), ("dwi", "b1000", b_value)):
        save(apart / "sub-1" / "dwi" / f"sub-1_acq-{name}_dwi.nii.gz", images[array])
        (apart / "sub-1" / "dwi" / f"sub-1_acq-{name}_dwi.bval").write_text(str(b))
    return [two, one, bids, apart]


def read_only(root: Path) -> Case:
    (examination,) = find_examinations(root)
    return examination.read(CONFIG)[0]


@pytest.mark.parametrize("b_value", [800, 1000, 1300])
def test_one_acquisition_by_every_door(tmp_path: Path, rng: np.random.Generator, b_value: int) -> None:
    images = {name: array.astype(np.float32) for name, array in head(rng).items() if name in {"b0", "b1000"}}
    first, *others = (read_only(root) for root in write_by_every_door(tmp_path, images, b_value))
    assert first.b_value == b_value
    for other in others:
        assert other.b_value == b_value
        np.testing.assert_allclose(other.b0.array, first.b0.array)
        np.testing.assert_allclose(other.b1000.array, first.b1000.array, rtol=1e-12)


def test_shells_are_not_pooled_and_that_is_said(tmp_path: Path) -> None:
    levels = np.array([100.0, 40.0, 30.0, 20.0])
    folder = tmp_path / "p"
    folder.mkdir()
    for name in ("b0", "b1000"):
        nib.save(nib.Nifti1Image(levels * np.ones((4, 4, 3, 1)), AFFINE), folder / f"{name}.nii.gz")
        (folder / f"{name}.bval").write_text("0 750 1000 1250")
    case = read_only(folder)
    assert case.b1000.array == pytest.approx(30.0)
    assert case.b_value == 1000
    assert "also holds b = 750, 1250 s/mm^2; b = 1000" in case.notes[0]
