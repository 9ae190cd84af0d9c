"""Small examinations as scanners write them, where they are at hand: each gives the images of the sound one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom")

from fvv.config import PredictConfig
from fvv.io.inputs import find_examinations

FAULTS = Path(__file__).resolve().parents[3] / "shared" / "faults" / "dicom"
FILES = sorted(FAULTS.glob("*.zip"))
JPEG = "20_jpeg_lossless_sv1"


@pytest.mark.skipif(not FILES, reason="the examinations are not here")
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_the_images_are_those_of_the_sound_control(file: Path) -> None:
    if file.stem == JPEG:
        pytest.importorskip("gdcm")
    config = PredictConfig(device="cpu")
    (control,) = find_examinations(FILES[0])
    (one,) = find_examinations(file)
    expected, _ = control.read(config)
    case, _ = one.read(config)
    np.testing.assert_allclose(case.b0.array, expected.b0.array)
    np.testing.assert_allclose(case.b1000.array, expected.b1000.array, atol=2e-6)
    assert case.b_value == 1000
    if not file.stem.startswith("01"):  # The oblique one lies elsewhere.
        np.testing.assert_allclose(case.b1000.affine, expected.b1000.affine, atol=0.006)
