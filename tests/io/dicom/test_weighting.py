"""b-values as each maker states them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_builders import (
    LPS_AFFINE,
    VENDORS,
    both,
    private,
    read_one,
    write,
    write_patient,
)


@pytest.mark.parametrize("vendor", VENDORS)
def test_every_maker_says_its_b_value(tmp_path: Path, images: dict[str, np.ndarray], vendor: str) -> None:
    write_patient(tmp_path / "p", images, vendor)
    case, source = read_one(tmp_path / "p")
    np.testing.assert_array_equal(case.b0.array, images["b0"])
    np.testing.assert_array_equal(case.b1000.array, images["b1000"])
    np.testing.assert_allclose(case.b1000.affine, LPS_AFFINE)
    assert case.b_value == 1000
    assert "series 4" in case.notes[0]
    assert len(source.b1000) == images["b0"].shape[2]


def test_uih_says_its_b_value(tmp_path: Path) -> None:
    for value, b_value in ((100, 0.0), (200, 1000.0)):
        write(
            tmp_path,
            value,
            None,
            change=private(0x0065, "Image Private Header", 0x09, "FD", b_value),
            kind=("ORIGINAL",),
        )
    assert both(tmp_path) == (100, 200)
