"""Acquisitions and where they lie: shells, BIDS tables, links to nothing, pipes, masks of outside programs."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np

from corpus.images import unmeasured
from corpus.registry import Place, Variant

Change = Callable[[Path], object]
_MOVED_MASK = """
import sys, nibabel as nib
image = nib.load(sys.argv[1])
affine = image.affine
affine[0, 3] += 40
sys.stdout.buffer.write(b"\\xff\\xfe")
nib.save(nib.Nifti1Image((image.get_fdata() > 250).astype("u1"), affine), sys.argv[2])
"""


def variants() -> Iterator[Variant]:
    """New patients, one of whom is not as expected."""
    failing: dict[str, tuple[Change, str]] = {
        "patient-linked-to-nothing": (_linked_to_nothing, "a broken link to not-mounted"),
        "b1000-as-a-pipe": (_pipe("b1000"), "regular file"),
        "adc-as-a-pipe-without-b0": (_pipe_for_b0, "regular file"),
        "bval-as-a-pipe": (lambda patient: os.mkfifo(patient / "b1000.bval"), "regular file"),
        "bval-linked-to-nothing": (lambda patient: (patient / "b1000.bval").symlink_to("x"), "broken link"),
    }
    for name, (change, says) in failing.items():
        yield Variant(f"predict-{name}", "predict", _predict(change), "failure", says, also=unmeasured)
    sound: dict[str, Change] = {
        "adc-as-a-pipe-beside-b0": _pipe("adc"),
        "file-linked-to-nothing-beside": lambda patient: (patient / "notes.txt").symlink_to("x"),
        "shells-of-three-b-values": _three_shells,
        "b0-stored-in-another-order": _other_order,
    }
    for name, change in sound.items():
        yield Variant(f"predict-{name}", "predict", _predict(change), "success")
    yield Variant("predict-bids-without-bval", "predict", _bids(None), "failure", "nor one higher up")
    yield Variant("predict-bids-with-inherited-bval", "predict", _bids("dwi.bval"), "success")
    yield Variant("predict-mask-command-elsewhere", "predict", _elsewhere, "failure", "40 mm apart")


def _predict(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.new / "n1")
        return _words(place, place.new)

    return build


def _words(place: Place, patients: Path) -> list[str]:
    return ["predict", str(patients), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]


def _linked_to_nothing(patient: Path) -> None:
    shutil.rmtree(patient)
    patient.symlink_to("not-mounted")


def _pipe(name: str) -> Change:
    def change(patient: Path) -> None:
        path = patient / f"{name}.nii.gz"
        path.unlink(missing_ok=True)
        os.mkfifo(path)

    return change


def _pipe_for_b0(patient: Path) -> None:
    (patient / "b0.nii.gz").unlink()
    os.mkfifo(patient / "adc.nii.gz")


def _three_shells(patient: Path) -> None:
    image = nib.load(patient / "b1000.nii.gz")
    b1000 = np.asarray(image.dataobj)
    nib.save(nib.Nifti1Image(np.stack([b1000 * 1.5, b1000, b1000 * 0.7], 3), image.affine), patient / "b1000.nii.gz")
    (patient / "b1000.bval").write_text("750 1000 1250")


def _other_order(patient: Path) -> None:
    image = nib.load(patient / "b0.nii.gz")
    nib.save(image.as_reoriented(np.array([[1, -1], [2, 1], [0, -1]])), patient / "b0.nii.gz")


def _bids(table: str | None) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        root = place.root / "bids"
        for subject in ("sub-1", "sub-2"):
            folder = root / subject / "dwi"
            folder.mkdir(parents=True)
            images = [nib.load(place.new / "n0" / f"{name}.nii.gz") for name in ("b0", "b1000")]
            both = np.stack([np.asarray(image.dataobj) for image in images], 3)
            nib.save(nib.Nifti1Image(both, images[0].affine), folder / f"{subject}_dwi.nii.gz")
            if table is None and subject == "sub-1":
                (folder / f"{subject}_dwi.bval").write_text("0 1000")
        if table is not None:
            (root / table).write_text("0 1000")
        return _words(place, root)

    return build


def _elsewhere(place: Place) -> list[str]:
    for mask in place.new.glob("*/mask.nii.gz"):
        mask.unlink()
    script = place.root / "tool.py"
    script.write_text(_MOVED_MASK)
    return [*_words(place, place.new), "--mask-command", f"{sys.executable} {script} {{b0}} {{mask}}"]
