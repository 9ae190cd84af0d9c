"""What a rule with the reference outline is worth: known contrasts, known Dice, labels that are and are not told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from builders import write_cohort
from fvv.data import InPlaneGrid, PreparedCase, SignalScale

SHAPE = (48, 48, 6)


@pytest.fixture(scope="module")
def outline(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("given_outline")


def strokes(module: ModuleType, contrast: np.ndarray, mismatch: np.ndarray, *, label: bool = True) -> list:
    """Strokes of 1 mL, one a person; the first contrast is given, the others are noise."""
    rng = np.random.default_rng(0)
    return [
        module.Stroke(
            f"p{i}", bool(no) if label else None, 1.0, 0.0 if no else 1.0, np.array([x, *rng.normal(0, 1, 9)])
        )
        for i, (x, no) in enumerate(zip(contrast, mismatch, strict=True))
    ]


def test_contrasts_are_those_of_the_signals(outline: ModuleType) -> None:
    i, j, k = np.indices(SHAPE)
    brain = (i - 23.5) ** 2 + (j - 24) ** 2 + 0 * k < 20**2
    stroke = (i - 14) ** 2 + (j - 24) ** 2 + 4 * (k - 3) ** 2 < 6**2
    b0, b1000 = np.where(brain, 200.0, 0.0), np.where(brain, 100.0, 0.0)
    b0[stroke], b1000[stroke] = 260.0, 250.0
    scales = SignalScale(200.0, 20.0), SignalScale(100.0, 10.0)
    grid = InPlaneGrid(SHAPE, np.diag([1.0, 1.0, 5.0, 1.0]), ((0, 1), (1, 1), (2, 1)), 1.0, SHAPE[0])
    images = [(image - scale.mean) / scale.deviation for image, scale in zip((b0, b1000), scales, strict=True)]
    found = outline.contrasts(
        PreparedCase("p", *images, brain, grid, b0_scale=scales[0], b1000_scale=scales[1]), stroke
    )
    volume_ml = stroke.sum() * grid.voxel_volume_ml
    expected = [*np.log([1.3] * 5), *np.log([2.5] * 2), *np.log([1.3 / 2.5] * 2), np.log(volume_ml)]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_dice_of_all_or_nothing(outline: ModuleType) -> None:
    share = np.array([1.0, 0.5, 0.0, 0.5, 0.0])
    found = outline.visible_dice(share, np.array([True, True, True, False, False]))
    np.testing.assert_allclose(found, [1.0, 2 / 3, 0.0, 0.0, np.nan])


@pytest.mark.parametrize(("label", "source"), [(True, "the readers' label"), (False, "mismatch where less than 20 %")])
def test_what_a_contrast_tells_is_found_and_noise_is_not(outline: ModuleType, label: bool, source: str) -> None:
    mismatch = np.arange(120) % 3 == 0
    noise = np.random.default_rng(1).normal(0, 1, 120)
    told = outline.table(strokes(outline, noise - 8 * mismatch, mismatch, label=label))
    assert "120 strokes, 40 with a mismatch; " + source in told
    assert "AUC of b0 over its mirrored side 1.000; of the regression 1.000" in told
    assert "FLAIR-visible Dice 1.000" in told
    assert "AUC of FVV 1.000" in told
    chance = float(outline.table(strokes(outline, noise, mismatch)).split("regression ")[1].split()[0])
    assert 0.3 < chance < 0.7


def test_too_few_strokes_and_damaged_files_are_named(
    outline: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cohort(tmp_path, np.random.default_rng(7), 4)
    (tmp_path / "p0" / "b0.nii.gz").write_bytes(b"")
    with pytest.raises(SystemExit):
        outline.main([str(tmp_path)])
    out, err = capsys.readouterr()
    assert "left out: patient p0" in out
    assert "expected at least 8 strokes with a mismatch, and as many without; found" in err
