"""Every fault that quality control is there for, put into a simulated patient; and clean patients, who have none."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

import builders
from fvv.config import PROFILES, PreprocessConfig
from fvv.data import Case, Finding, Severity, Volume
from fvv.errors import MaskError
from fvv.imaging import quality
from fvv.imaging.preprocess import preprocess_case
from fvv.imaging.quality import assess_quality
from fvv.imaging.quality.alignment import displacement_mm
from fvv.imaging.quality.signal import without_gaps
from fvv.imaging.quality.usual import unlike_training, usual_features, usual_range
from fvv.imaging.quality.view import NativeView, native_view
from fvv.io.case import read_case
from fvv.io.nifti import read_volume

BOUNDS = (400.0, 2500.0)
# A coarser working grid: the checks look at native voxels, and it takes a quarter of the time.
ROBUST = PROFILES["robust-v1"].model_copy(update={"grid_size": 128})
REFERENCE = PROFILES["reference-v1"].model_copy(update={"grid_size": 128})
NUMBER = 6
CLEAN = (50, 68, 6, 32, 76, 18, 9, 30, 43, 42, 10, 79, 78, 7, 51, 24, 20, 23, 55, 15)
"""The 20 patients of the first 80 with the fewest voxels, from all three sites."""
DISPLACED = 76
"""Its simulated b0 is displaced by 3.1 mm."""

Simulated = Callable[[int], Any]
Codes = dict[str, Severity]


def case_of(simulated: Simulated, number: int = NUMBER) -> Case:
    made = simulated(number)
    return Case("p", Volume(made.b0.astype(float), made.affine), Volume(made.b1000.astype(float), made.affine))


def codes(case: Case, profile: Any = ROBUST) -> Codes:
    whole, not_finite = without_gaps(case)
    prepared = preprocess_case(whole, profile)
    findings = assess_quality(native_view(whole, prepared, brain_volume_bounds_ml=BOUNDS, not_finite=not_finite))
    return {finding.code: finding.severity for finding in findings}


def view_of(case: Case) -> NativeView:
    return native_view(case, preprocess_case(case, ROBUST), brain_volume_bounds_ml=BOUNDS)


def changed(case: Case, change: Callable[[np.ndarray], np.ndarray], *names: str) -> Case:
    """The case with an array function applied to b0, b1000 or, by default, both."""
    new = {}
    for name in names or ("b0", "b1000"):
        volume = getattr(case, name)
        new[name] = Volume(change(volume.array.copy()), volume.affine)
    return replace(case, **new)


def without_air(brain: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Sets what is darker than a tenth of the brain's median to 0, as scanners do that mask the background."""
    return lambda image: np.where(image > 0.1 * np.median(image[brain]), image, 0.0)


def test_findings_stand_in_the_order_of_the_checks_whichever_ends_first(
    simulated: Simulated, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checks run side by side; an error of one is the caller's."""

    def check(name: str, seconds: float) -> Any:
        def found(_: NativeView) -> Iterator[Finding]:
            time.sleep(seconds)
            yield Finding(name, name, Severity.NOTE)

        return found

    def broken(_: NativeView) -> Iterator[Finding]:
        raise MaskError("no such mask")

    view = view_of(case_of(simulated))
    checks = (check("slow", 0.2), check("quick", 0.0), check("last", 0.05))
    monkeypatch.setattr(quality, "CHECKS", checks)
    found = [finding.code for finding in assess_quality(view)]
    assert found[len(view.prepared.findings) :] == ["slow", "quick", "last"]
    monkeypatch.setattr(quality, "CHECKS", (*checks, broken))
    with pytest.raises(MaskError, match="no such mask"):
        assess_quality(view)


@pytest.mark.parametrize("number", CLEAN)
def test_clean_patients_are_assessable(simulated: Simulated, number: int) -> None:
    found = codes(case_of(simulated, number))
    assert Severity.NOT_ASSESSABLE not in found.values(), found
    assert len(found) <= 1
    assert ("misaligned" in found) is (number == DISPLACED)


@pytest.mark.golden
def test_the_real_patient_is_clean(golden: Any) -> None:
    case = read_case(golden / "cases" / "S01_256x256x30", PreprocessConfig(), labelled=False)
    assert codes(case) == {}
    assert codes(case, REFERENCE) == {}

    # Another tool's mask reaches further into dura and bone, which are dark on b1000.
    mask = read_volume(golden / "brain_ads" / "S01_256x256x30.nii.gz")
    assert codes(replace(case, mask=Volume(mask.array > 0, mask.affine))) == {}


@pytest.mark.parametrize("number", [NUMBER, 7, 9, 10, 43])
class TestWrongContrast:
    def test_swapped(self, simulated: Simulated, number: int) -> None:
        case = case_of(simulated, number)
        assert codes(replace(case, b0=case.b1000, b1000=case.b0))["swapped"] is Severity.NOT_ASSESSABLE

    def test_adc_map_instead_of_b1000(self, simulated: Simulated, number: int) -> None:
        case = case_of(simulated, number)
        with np.errstate(all="ignore"):
            adc = np.log(case.b0.array / case.b1000.array) * 1000
        adc = np.clip(np.nan_to_num(adc, nan=0.0, posinf=0.0, neginf=0.0), 0, 4000)
        assert codes(replace(case, b1000=Volume(adc, case.b0.affine)))["b1000-is-adc"] is Severity.NOT_ASSESSABLE

    def test_flair_instead_of_b1000(self, simulated: Simulated, number: int) -> None:
        case = case_of(simulated, number)
        flair = Volume(simulated(number).flair.astype(float), case.b0.affine)
        assert codes(replace(case, b1000=flair))["b1000-is-flair"] is Severity.NOT_ASSESSABLE


def test_flair_with_bright_scalp(simulated: Simulated) -> None:
    made, case = simulated(18), case_of(simulated, 18)
    flair = made.flair.astype(float)
    scalp = (case.b0.array > 0.1 * np.median(case.b0.array[made.brain])) & ~made.brain
    flair[scalp] = 1.2 * np.median(flair[made.brain])
    assert "b1000-is-flair" in codes(replace(case, b1000=Volume(flair, made.affine)))


def test_the_same_image_twice(simulated: Simulated) -> None:
    case = case_of(simulated)
    assert codes(replace(case, b1000=case.b0))["same-image"] is Severity.NOT_ASSESSABLE


@pytest.mark.parametrize(
    ("b_value", "expected"),
    [
        (None, None),
        (1000, None),
        (900, None),
        (800, Severity.WARNING),
        (500, Severity.WARNING),
        (2500, Severity.WARNING),
        (450, Severity.NOT_ASSESSABLE),
        (3000, Severity.NOT_ASSESSABLE),
    ],
)
def test_b_value(simulated: Simulated, b_value: float | None, expected: Severity | None) -> None:
    assert codes(replace(case_of(simulated), b_value=b_value)).get("b-value") is expected


def test_a_b_value_that_nothing_states(simulated: Simulated) -> None:
    """The signal drops like that of b = 2500 or 500. Stated, there is nothing to say; rescaled, nothing is known."""
    case = case_of(simulated)

    def at(b_value: float) -> Case:
        ratio = np.maximum(case.b1000.array, 1e-3) / np.maximum(case.b0.array, 1e-3)
        return replace(case, b1000=Volume(case.b0.array * ratio ** (b_value / 1000), case.b0.affine))

    assert "b-value-unstated" not in codes(case)
    for b_value in (500, 2500):
        assert codes(at(b_value))["b-value-unstated"] is Severity.WARNING
        assert "b-value-unstated" not in codes(replace(at(b_value), b_value=b_value))
    high = at(2500)
    scaled = replace(high, b0=Volume(high.b0.array / np.ptp(high.b0.array) * np.ptp(high.b1000.array), high.b0.affine))
    assert "b-value-unstated" not in codes(scaled)


def test_few_grey_levels(simulated: Simulated) -> None:
    coarse = changed(case_of(simulated), lambda image: np.round(image / image.max() * 24), "b1000")
    assert codes(coarse)["intensity-range"] is Severity.NOT_ASSESSABLE


def test_saturated(simulated: Simulated) -> None:
    made = simulated(NUMBER)
    top = np.quantile(made.b0[made.brain], 0.95)
    assert codes(changed(case_of(simulated), lambda image: np.minimum(image, top), "b0"))["intensity-range"]


@pytest.mark.parametrize("name", ["b0", "b1000"])
@pytest.mark.parametrize(("times", "expected"), [(20, None), (60, Severity.WARNING), (150, Severity.NOT_ASSESSABLE)])
def test_a_spike(simulated: Simulated, times: float, expected: Severity | None, name: str) -> None:
    brain = simulated(NUMBER).brain
    places = np.argwhere(brain)

    def spoil(image: np.ndarray) -> np.ndarray:
        image[tuple(places[len(places) // 2])] = times * np.median(image[brain])
        return image

    assert codes(changed(case_of(simulated), spoil, name)).get("spike") is expected


def test_many_spikes(simulated: Simulated) -> None:
    """Each too weak to be named by itself, together they set the scale."""
    brain = simulated(NUMBER).brain
    places = np.argwhere(brain)[::400].T

    def spoil(image: np.ndarray) -> np.ndarray:
        image[tuple(places)] = 90 * np.median(image[brain])
        return image

    assert codes(changed(case_of(simulated), spoil, "b0"))["spike"] is Severity.NOT_ASSESSABLE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_inside_the_brain(simulated: Simulated, bad: float) -> None:
    lesion = np.argwhere(simulated(NUMBER).brain)[::200]

    def spoil(image: np.ndarray) -> np.ndarray:
        image[tuple(lesion.T)] = bad
        return image

    assert codes(changed(case_of(simulated), spoil, "b1000"))["not-finite"] is Severity.NOT_ASSESSABLE


@pytest.mark.parametrize("names", [("b1000",), ("b0", "b1000")])
@pytest.mark.parametrize("number", [9, 10])
def test_lesion_without_numbers_leaves_the_mask_but_counts(
    simulated: Simulated, number: int, names: tuple[str, ...]
) -> None:
    """Background at 0: what is filled with it is cut out of the mask."""
    made = simulated(number)
    lesion = ndimage.binary_dilation(made.stroke, np.ones((3, 3, 1)), iterations=2)
    dark = changed(case_of(simulated, number), without_air(made.brain))
    assert Severity.NOT_ASSESSABLE not in codes(dark).values()
    holed = changed(dark, lambda image: np.where(lesion, np.nan, image), *names)
    assert codes(holed)["not-finite"] is Severity.NOT_ASSESSABLE


@pytest.mark.parametrize("number", [NUMBER, 10, 20])
def test_background_without_numbers_is_only_warned_about(simulated: Simulated, number: int) -> None:
    """All that lies outside the head, as tools that write NaN for "nothing" leave it."""
    made = simulated(number)
    dark = changed(case_of(simulated, number), without_air(made.brain))
    tissue = (dark.b0.array > 0) | made.brain
    tissue = ndimage.binary_dilation(tissue, np.ones((3, 3, 1)), iterations=2)
    head = np.stack([ndimage.binary_fill_holes(tissue[..., k]) for k in range(tissue.shape[2])], axis=2)
    assert codes(changed(dark, lambda image: np.where(head, image, np.nan)))["not-finite"] is Severity.WARNING


@pytest.mark.parametrize("names", [("b1000",), ("b0", "b1000")])
def test_half_an_image_without_numbers_is_no_background(simulated: Simulated, names: tuple[str, ...]) -> None:
    """It reaches the edge of the image as a background does, and the mask leaves it out."""

    def lose(image: np.ndarray) -> np.ndarray:
        image[: len(image) // 2, :, 12:20] = np.nan
        return image

    assert codes(changed(case_of(simulated), lose, *names))["not-finite"] is Severity.NOT_ASSESSABLE


def test_background_without_numbers_inside_a_frame(simulated: Simulated) -> None:
    """As resampling onto a larger field of view leaves it: it does not reach the edge of the image."""
    made = simulated(NUMBER)
    stripped = changed(case_of(simulated), lambda image: np.where(made.brain, image, np.nan))
    framed = changed(stripped, lambda image: np.pad(image, ((2, 2), (2, 2), (0, 0))))
    assert codes(stripped)["not-finite"] is Severity.WARNING
    assert Severity.NOT_ASSESSABLE not in codes(stripped).values()
    assert codes(framed) == codes(stripped)


def test_island_without_numbers_far_from_the_brain_is_only_warned_about(simulated: Simulated) -> None:
    case, corner = case_of(simulated), np.s_[2:12, 2:12]

    def spoil(image: np.ndarray) -> np.ndarray:
        image[corner] = np.nan
        return image

    assert codes(changed(case, spoil)) == {"not-finite": Severity.WARNING}


def test_not_finite_background_is_only_warned_about(simulated: Simulated) -> None:
    case, corner = case_of(simulated), np.s_[:5, :5]

    def spoil(image: np.ndarray) -> np.ndarray:
        image[corner] = np.nan
        return image

    assert codes(changed(case, spoil)) == {"not-finite": Severity.WARNING}


def test_nothing_finite_at_all(simulated: Simulated) -> None:
    with pytest.raises(MaskError, match="no finite number"):
        without_gaps(changed(case_of(simulated), lambda image: np.full_like(image, np.nan), "b0"))


@pytest.mark.parametrize(("low", "high"), [(0.45, 0.55), (0.0, 1.0)])
def test_brain_volume(simulated: Simulated, low: float, high: float) -> None:
    """A mask of a tenth of the slice, and one of the whole field of view."""
    case = case_of(simulated, 9)
    n = case.b0.array.shape[0]
    mask = np.zeros(case.b0.array.shape, dtype=bool)
    mask[int(low * n) : int(high * n)] = True
    mask &= simulated(9).brain if low else True
    found = codes(replace(case, mask=Volume(mask, case.b0.affine)))
    assert found["brain-volume"] is Severity.NOT_ASSESSABLE


def test_mask_collapsed_on_the_lesion(simulated: Simulated) -> None:
    made = simulated(NUMBER)
    bright = changed(case_of(simulated), lambda image: np.where(made.stroke, 10 * image, image), "b1000")
    assert codes(bright, REFERENCE)["mask-on-lesion"] is Severity.NOT_ASSESSABLE
    assert "mask-on-lesion" not in codes(bright, ROBUST)


def test_brain_cut_by_the_working_grid(simulated: Simulated) -> None:
    beside = changed(case_of(simulated), lambda image: np.pad(image, ((0, 96), (0, 0), (0, 0))))
    assert codes(beside)["brain-cut"] is Severity.WARNING


def test_brain_cut_by_the_field_of_view(simulated: Simulated) -> None:
    where = np.flatnonzero(simulated(NUMBER).brain.any(axis=(1, 2)))
    cut = changed(case_of(simulated), lambda image: image[where[0] + 15 :])
    assert codes(cut)["brain-at-edge"] is Severity.WARNING


@pytest.mark.parametrize(("n", "expected"), [(5, Severity.WARNING), (2, Severity.NOT_ASSESSABLE)])
def test_few_slices(simulated: Simulated, n: int, expected: Severity) -> None:
    few = changed(case_of(simulated), lambda image: image[:, :, 12 : 12 + n])
    assert codes(few)["few-slices"] is expected
    assert codes(changed(few, lambda image: np.pad(image, ((0, 0), (0, 0), (9, 9)))))["few-slices"] is expected


def test_stack_that_ends_inside_the_brain(simulated: Simulated) -> None:
    found = codes(changed(case_of(simulated), lambda image: image[:, :, 8:16]))
    assert found["brain-cut-by-slices"] is Severity.WARNING


@pytest.mark.parametrize("nothing", [0.0, np.nan])
@pytest.mark.parametrize("end", [np.s_[:, :, :8], np.s_[:, :, 16:]])
def test_padded_stack_that_ends_inside_the_brain(simulated: Simulated, end: Any, nothing: float) -> None:
    def pad(image: np.ndarray) -> np.ndarray:
        image[end] = nothing
        return image

    assert codes(changed(case_of(simulated), pad))["brain-cut-by-slices"] is Severity.WARNING


def test_padding_beyond_the_head_is_nothing_to_speak_of(simulated: Simulated) -> None:
    case = case_of(simulated)
    assert codes(changed(case, lambda image: np.pad(image, ((0, 0), (0, 0), (3, 3))))) == codes(case)


@pytest.mark.parametrize("nothing", [0.0, np.nan])
@pytest.mark.parametrize("name", ["b0", "b1000"])
@pytest.mark.parametrize("end", [np.s_[:, :, :8], np.s_[:, :, 16:]])
def test_an_end_that_one_image_lacks(simulated: Simulated, end: Any, name: str, nothing: float) -> None:
    def lose(image: np.ndarray) -> np.ndarray:
        image[end] = nothing
        return image

    assert codes(changed(case_of(simulated), lose, name))["missing-slices"] is Severity.NOT_ASSESSABLE


def test_slice_beyond_the_head_that_one_image_lacks_is_only_warned_about(simulated: Simulated) -> None:
    case = changed(case_of(simulated), lambda image: np.pad(image, ((0, 0), (0, 0), (0, 1))))

    def leave_a_rim(image: np.ndarray) -> np.ndarray:
        image[20:24, 20:24, -1] = image.max()
        return image

    assert codes(changed(case, leave_a_rim, "b0")) == {"missing-slices": Severity.WARNING}


@pytest.mark.parametrize("value", [0.0, 300.0])
def test_missing_slices(simulated: Simulated, value: float) -> None:
    def lose(image: np.ndarray) -> np.ndarray:
        image[:, :, 13:15] = value
        return image

    # A user's mask spans them; ours, being of one piece, may end below.
    case = changed(case_of(simulated), lose, "b1000")
    case = replace(case, mask=Volume(simulated(NUMBER).brain, case.b0.affine))
    assert codes(case)["missing-slices"] is Severity.NOT_ASSESSABLE


@pytest.mark.parametrize("nothing", [0.0, np.nan])
def test_slices_missing_on_both_images(simulated: Simulated, nothing: float) -> None:
    """Our mask is of one piece and ends at the gap: what lies beyond must not pass for padding."""

    def lose(image: np.ndarray) -> np.ndarray:
        image[:, :, 13:15] = nothing
        return image

    assert codes(changed(case_of(simulated), lose))["missing-slices"] is Severity.NOT_ASSESSABLE


@pytest.mark.parametrize(("every", "expected"), [(2, Severity.WARNING), (4, Severity.NOT_ASSESSABLE)])
def test_large_gaps(simulated: Simulated, every: int, expected: Severity) -> None:
    case = case_of(simulated)
    affine = case.b0.affine @ np.diag([1.0, 1.0, every, 1.0])
    thinned = replace(
        case, b0=Volume(case.b0.array[..., ::every], affine), b1000=Volume(case.b1000.array[..., ::every], affine)
    )
    assert codes(thinned)["slice-gap"] is expected


def test_slices_along_another_axis(simulated: Simulated) -> None:
    """The header calls the axial slices coronal."""
    case = case_of(simulated)
    affine = np.diag([*case.b0.spacing_mm, 1.0])[[0, 2, 1, 3]]
    wrong = replace(case, b0=Volume(case.b0.array, affine), b1000=Volume(case.b1000.array, affine))
    assert codes(wrong)["slice-axis"] is Severity.NOT_ASSESSABLE


def test_motion_between_slices(simulated: Simulated) -> None:
    voxels = round(5 / case_of(simulated).b0.spacing_mm[0])

    def move(image: np.ndarray) -> np.ndarray:
        image[:, :, ::2] = np.roll(image[:, :, ::2], voxels, axis=0)
        return image

    assert codes(changed(case_of(simulated), move))["motion"] is Severity.WARNING


@pytest.mark.parametrize(
    ("number", "how"), [(NUMBER, "across"), (NUMBER, "along"), (NUMBER, "next slice"), (9, "turned")]
)
def test_motion_between_the_volumes(simulated: Simulated, number: int, how: str) -> None:
    case = case_of(simulated, number)
    voxels = 6 / case.b0.spacing_mm[0]
    moves: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "across": lambda image: ndimage.shift(image, (voxels, 0, 0), order=1),
        "along": lambda image: ndimage.shift(image, (0, -voxels, 0), order=1),
        "next slice": lambda image: np.roll(image, 1, axis=2),
        "turned": lambda image: ndimage.rotate(image, 7, reshape=False, order=1),
    }
    assert codes(changed(case, moves[how], "b1000"))["misaligned"] is Severity.WARNING


@pytest.mark.parametrize("shift_mm", [(0, 0, 0), (1, 0, 0), (0, -2, 0), (3, 0, 0), (0, 5, 0), (-4, 4, 0), (0, 0, 5.5)])
def test_the_displacement_is_measured(simulated: Simulated, shift_mm: tuple[float, float, float]) -> None:
    """To half a millimetre in plane, beside the 0.3 mm that the patient is simulated with."""
    case = case_of(simulated)
    voxels = np.array(shift_mm) / case.b0.spacing_mm
    moved = changed(case, lambda image: ndimage.shift(image, voxels, order=1, mode="nearest"), "b1000")
    assert displacement_mm(view_of(moved)) == pytest.approx(np.linalg.norm(shift_mm), abs=0.6)


def test_brightness_at_the_rim_is_no_displacement(simulated: Simulated) -> None:
    """Halves of a head that is brighter at its rim, by its coil, fit each other better a little further in."""
    case = case_of(simulated, 6)
    i, j, _ = case.b0.array.shape
    x, y = np.ogrid[-1 : 1 : 1j * i, -1 : 1 : 1j * j]
    shaded = changed(case, lambda image: image * np.exp(1.5 * (x**2 + y**2))[:, :, None])
    assert displacement_mm(view_of(shaded)) < 1.5


def test_signal_dropout(simulated: Simulated) -> None:
    def darken(image: np.ndarray) -> np.ndarray:
        image[:, :, 14] *= 0.5
        return image

    assert codes(changed(case_of(simulated), darken, "b1000"))["signal-dropout"] is Severity.WARNING


def test_noise(simulated: Simulated, rng: np.random.Generator) -> None:
    tissue = np.median(simulated(NUMBER).b1000[simulated(NUMBER).brain])

    def spoil(image: np.ndarray) -> np.ndarray:
        return np.abs(image + rng.normal(0, 0.25 * tissue, image.shape))

    assert codes(changed(case_of(simulated), spoil, "b1000"))["noise"] is Severity.WARNING


def test_unlike_the_training_cohort(simulated: Simulated) -> None:
    cohort = [preprocess_case(case_of(simulated, number), ROBUST) for number in (9, 18, 50)]
    known = usual_range(usual_features(prepared) for prepared in cohort)
    view = native_view(case_of(simulated, 9), cohort[0], brain_volume_bounds_ml=BOUNDS, usual_range=known)
    for prepared in cohort:
        assert not list(unlike_training(replace(view, prepared=prepared)))
        assert not list(unlike_training(replace(view, prepared=prepared, usual_range={})))
    odd = replace(cohort[0], b0=cohort[0].b0 * 2)
    (finding, *_) = unlike_training(replace(view, prepared=odd))
    assert (finding.code, finding.severity) == ("unlike-training", Severity.WARNING)
    assert "on b0" in finding.message


def test_a_phantom_is_no_patient(rng: np.random.Generator) -> None:
    grid = np.ogrid[-1:1:64j, -1:1:64j, -2:2:30j]
    ball = sum(axis**2 for axis in grid) < 0.4
    b0, b1000 = (np.where(ball, level, 10.0) + rng.normal(0, 5, ball.shape) for level in (1000.0, 130.0))
    affine = np.diag([3.5, 3.5, 5.0, 1.0])
    assert codes(Case("p", Volume(b0, affine), Volume(b1000, affine)))["uniform"] is Severity.NOT_ASSESSABLE


def test_a_slice_that_was_copied(simulated: Simulated) -> None:
    def copy(image: np.ndarray) -> np.ndarray:
        image[..., image.shape[2] // 2] = image[..., image.shape[2] // 2 + 1]
        return image

    case = case_of(simulated)
    assert codes(changed(case, copy))["repeated-slices"] is Severity.WARNING
    assert "repeated-slices" not in codes(changed(case, copy, "b0"))


@pytest.mark.parametrize("scale", [1e-3, 2e-4, 1e3])
def test_a_header_in_other_units_takes_no_more_memory(rng: np.random.Generator, scale: float) -> None:
    """Checks that look some millimetres around must not look a thousand times as far with voxels of micrometres."""
    case = replace(builders.case_of(builders.head(rng)), stroke_roi=None, flair_visible_roi=None, mask=None)
    profile = PROFILES["robust-v3"].model_copy(update={"grid_size": 64})
    peaks = {}
    for factor in (1.0, scale):
        affine = builders.AFFINE @ np.diag([factor, factor, factor, 1])
        scaled = replace(case, b0=Volume(case.b0.array, affine), b1000=Volume(case.b1000.array, affine))
        prepared = preprocess_case(scaled, profile)
        tracemalloc.start()
        found = assess_quality(native_view(scaled, prepared, brain_volume_bounds_ml=BOUNDS))
        peaks[factor] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert "brain-size" in {finding.code for finding in found}
    assert peaks[scale] < 20 * peaks[1.0]
