"""ROIs, masks and pairs of images that do not fit each other or what they should be."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from corpus.images import left_out, no_volume
from corpus.nifti_bytes import Breaker, affine, voxels
from corpus.registry import Place, Variant

Change = Callable[[Path], object]


def _shifted(a: np.ndarray) -> np.ndarray:
    moved = a.copy()
    moved[:3, 3] += 5
    return moved


def _elsewhere(a: np.ndarray) -> np.ndarray:
    moved = a.copy()
    moved[:3, 3] += 2000
    return moved


def _linked_to_nothing(name: str) -> Change:
    def change(patient: Path) -> None:
        path = patient / f"{name}.nii.gz"
        path.unlink()
        path.symlink_to("not-fetched")

    return change


def _on(name: str, breaker: Breaker) -> Change:
    return lambda patient: breaker(patient / f"{name}.nii.gz")


def _outside(array: np.ndarray) -> np.ndarray:
    moved = np.zeros_like(array)
    moved[2:5, 2:5, 4] = 1
    return moved


def _tiny(array: np.ndarray) -> np.ndarray:
    small = np.zeros_like(array)
    small[30:32, 30:32, 4] = 1
    return small


def _drop(name: str) -> Change:
    return lambda patient: (patient / f"{name}.nii.gz").unlink()


def _copy(source: str, target: str) -> Change:
    return lambda patient: shutil.copy(patient / f"{source}.nii.gz", patient / f"{target}.nii.gz")


def _second_mask(patient: Path) -> None:
    shutil.copy(patient / "mask.nii.gz", patient / "mask_roi.nii.gz")


def _swap(patient: Path) -> None:
    b0, b1000 = patient / "b0.nii.gz", patient / "b1000.nii.gz"
    b0.rename(patient / "kept")
    b1000.rename(b0)
    (patient / "kept").rename(b1000)


def _everything(breaker: Breaker) -> Change:
    def change(patient: Path) -> None:
        for path in patient.glob("*.nii.gz"):
            breaker(path)

    return change


def _as_another(patient: Path) -> None:
    shutil.copytree(patient, patient.with_name("another"))


_ROI = "stroke_roi"
REFUSED: dict[str, tuple[Change, str]] = {
    "roi-of-other-shape": (_on(_ROI, voxels(lambda a: a[:-1], "u1")), "--resample-rois"),
    "roi-of-other-slices": (_on(_ROI, voxels(lambda a: a[..., :-1], "u1")), "--resample-rois"),
    "roi-moved-5-mm": (_on(_ROI, affine(_shifted)), "mm apart"),
    "roi-flipped-left-right": (_on(_ROI, affine(lambda a: a @ np.diag([-1, 1, 1, 1]))), "mm apart"),
    "roi-4d": (_on(_ROI, voxels(lambda a: np.stack([a, a], 3), "u1")), "4D"),
    "roi-with-nan": (_on(_ROI, voxels(lambda a: a * np.nan)), "not finite"),
    "roi-complex": (_on(_ROI, voxels(lambda a: a + 1j, "c8")), "data type"),
    "roi-of-low-probabilities": (_on(_ROI, voxels(lambda a: a * np.linspace(0.1, 0.4, a.shape[2]))), "none over 0.5"),
    "roi-linked-to-nothing": (_linked_to_nothing(_ROI), "broken link"),
    "mask-linked-to-nothing": (_linked_to_nothing("mask"), "broken link"),
    "roi-missing": (_drop(_ROI), "missing"),
    "flairviz-missing": (_drop("flairviz_roi"), "missing"),
    "flairviz-of-other-shape": (_on("flairviz_roi", voxels(lambda a: a[:, :-1], "u1")), "--resample-rois"),
    "mask-of-other-shape": (_on("mask", voxels(lambda a: a[:, :-1], "u1")), "--resample-rois"),
    "two-masks": (_second_mask, "both there"),
    "b0-of-other-shape": (_on("b0", voxels(lambda a: a[:-1])), "--resample-b0"),
    "b0-moved-5-mm": (_on("b0", affine(_shifted)), "mm apart"),
    "b0-missing": (_drop("b0"), "missing"),
}
UNPREPARED: dict[str, tuple[Change, str]] = {
    "mask-empty": (_on("mask", voxels(lambda a: a * 0, "u1")), "mask is empty"),
    "mask-of-four-voxels": (_on("mask", voxels(_tiny, "u1")), "mL"),
    "mask-of-everything": (_on("mask", voxels(lambda a: a * 0 + 1, "u1")), "mL"),
    "zero-images": (_everything(voxels(lambda a: a * 0)), "empty"),
}
NOTED: dict[str, tuple[Change, str]] = {
    "roi-of-0-and-255": (_on(_ROI, voxels(lambda a: a * 255, "u1")), "not 0/1"),
    "roi-of-three-labels": (_on(_ROI, voxels(lambda a: a + (a > 0), "u1")), "not 0/1"),
    "roi-of-fractions": (_on(_ROI, voxels(lambda a: a * 0.7)), "not 0/1"),
    "roi-negative": (_on(_ROI, voxels(lambda a: -a, "f4")), "not 0/1"),
    "roi-of-255-as-signed-bytes": (_on(_ROI, voxels(lambda a: -a, "i1")), "used where not 0"),
    "roi-divided-by-255": (_on(_ROI, voxels(lambda a: a / 255)), "used where not 0"),
    "roi-empty": (_on(_ROI, voxels(lambda a: a * 0, "u1")), "taken as no lesion"),
    "flairviz-outside-stroke": (_on("flairviz_roi", voxels(_outside, "u1")), "outside the stroke ROI"),
    "stroke-outside-brain": (_on(_ROI, voxels(_outside, "u1")), "outside the brain mask"),
}
NOT_ASSESSABLE: dict[str, Change] = {
    "voxel-size-lost": _everything(affine(lambda a: np.eye(4))),
    "axes-reversed": _everything(voxels(lambda a: a.transpose(2, 1, 0))),
    "turned-in-plane": _everything(voxels(lambda a: a.swapaxes(0, 1))),
    "one-slice": _everything(voxels(lambda a: a[..., 4:5])),
    "two-slices": _everything(voxels(lambda a: a[..., 4:6])),
    "constant-images": _everything(voxels(lambda a: a * 0 + 100)),
    "black-images": _everything(voxels(lambda a: a * 0)),
    "black-b1000": _on("b1000", voxels(lambda a: a * 0)),
    "noise-images": _everything(voxels(lambda a: np.random.default_rng(0).random(a.shape))),
    "negative-images": _everything(voxels(lambda a: -a)),
    "b0-and-b1000-swapped": _swap,
    "b0-twice": _copy("b0", "b1000"),
    "b1000-twice": _copy("b1000", "b0"),
    "empty-mask-given": lambda patient: voxels(lambda a: a * 0, "u1")(patient / "mask.nii.gz"),
    "tiny-mask-given": lambda patient: voxels(_tiny, "u1")(patient / "mask.nii.gz"),
}
ODD: dict[str, tuple[Change, str]] = {
    "roi-resampled": (_on(_ROI, voxels(lambda a: a[:-1], "u1")), "--resample-rois"),
    "b0-resampled": (_on("b0", affine(_shifted)), "--resample-b0"),
}


def variants() -> Iterator[Variant]:
    """ROIs before `verify` and `prepare`, pairs and masks before `predict`."""
    for name, (change, says) in [*REFUSED.items(), *UNPREPARED.items()]:
        yield Variant(f"verify-{name}", "verify", _verify(change), "failure", says)
    for name, (change, says) in [*list(REFUSED.items())[::3], *UNPREPARED.items()]:
        yield Variant(f"prepare-{name}", "prepare", _prepare(change), "failure", says, also=left_out)
    for name, (change, says) in NOTED.items():
        yield Variant(f"verify-{name}", "verify", _verify(change), "warning", says)
    for name, (change, option) in ODD.items():
        yield Variant(f"verify-{name}", "verify", _verify(change, option), "warning", "resampled onto")
    yield Variant("verify-same-person-twice", "verify", _verify(_as_another), "failure", "same images as")
    lost = _verify(_on(_ROI, affine(_elsewhere)), "--resample-rois")
    yield Variant("verify-roi-resampled-to-nothing", "verify", lost, "failure", "nothing is left")
    for name, change in NOT_ASSESSABLE.items():
        yield Variant(f"predict-{name}", "predict", _predict(change), "not assessable", also=no_volume)
    yield Variant("predict-no-lesion", "predict", _predict(_no_lesion), "success", "no lesion found", also=_true_zero)


def _no_lesion(patient: Path) -> None:
    """Everything as bright as tissue at most: a true 0 mL, which must not read as `not assessable`."""
    voxels(lambda a: np.minimum(a, 230))(patient / "b1000.nii.gz")


def _true_zero(place: Place) -> None:
    answer = json.loads((place.out / "n1" / "results.json").read_text())
    assert answer["decision"] == "no lesion found"
    assert answer["FlairVizVolume"] == 0
    assert not np.asarray(nib.load(place.out / "n1" / "predictions.nii.gz").dataobj)[..., 1].any()


def _verify(change: Change, *options: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.cohort / "p1")
        return ["verify", "-i", str(place.cohort), "--workers", "1", *options]

    return build


def _prepare(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.cohort / "p1")
        shutil.copytree(place.base / "prepared", place.out)
        return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-k", "3", "--workers", "1"]

    return build


def _predict(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.new / "n1")
        return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]

    return build
