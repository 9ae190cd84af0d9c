"""Doors of the program itself: settings that are no files, or that grow; names that would forge lines of a terminal."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Iterator

from corpus.registry import Place, Variant

FORGED = "p1\nerror: all is lost\x1b[2K"
MERGES = "\n".join(
    ["x0: &x0 {a: 1, b: 2}"] + [f"x{n}: &x{n} {{<<: [{', '.join([f'*x{n - 1}'] * 9)}]}}" for n in range(1, 12)]
)
SETTINGS = {
    "merges-of-merges": (MERGES, "more than 20 aliases"),
    "date-that-is-none": ("prepare: {kfolds: 2001-99-99}", "cannot read settings"),
    "number-without-end": ("prepare: {kfolds: " + "9" * 5000 + "}", "cannot read settings"),
    "two-megabytes": ("#" * 2**21, "expected at most"),
}


def variants() -> Iterator[Variant]:
    """Settings, then names."""
    for name, (text, says) in SETTINGS.items():
        yield Variant(f"prepare-settings-{name}", "prepare", _settings(text), "error", says)
    yield Variant("prepare-settings-pipe", "prepare", _pipe("-c"), "error", "regular file")
    yield Variant("convert-choices-pipe", "convert", _pipe("--models-file"), "error", "regular file")
    yield Variant("predict-one-folder-forged", "predict", _one_folder, "error", "rename", also=_plain_results)
    yield Variant("predict-zip-forged", "predict", _zip, "failure", "rename", also=_plain_results)
    yield Variant("predict-bids-forged", "predict", _bids, "error", "rename", also=_plain_results)
    yield Variant("predict-bundle-forged", "predict", _bundle, "success", "2 patients", also=_plain_results)
    yield Variant("verify-participants-forged", "verify", _participants, "error", "printable")


def _settings(text: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.root / "settings.yaml").write_text(text)
        return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-c", "settings.yaml"]

    return build


def _pipe(option: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        os.mkfifo(place.root / "pipe.yaml")
        verb = "prepare" if option == "-c" else "convert"
        return [verb, option, "pipe.yaml", "-i", str(place.cohort), "-o", str(place.out)]

    return build


def _predict(place: Place, source: str) -> list[str]:
    return ["predict", source, "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]


def _one_folder(place: Place) -> list[str]:
    (place.new / "n1").rename(place.root / FORGED)
    return _predict(place, str(place.root / FORGED))


def _zip(place: Place) -> list[str]:
    file = place.root / f"{FORGED}.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("image", b"")
    return _predict(place, str(file))


def _bids(place: Place) -> list[str]:
    folder = place.root / "bids" / f"sub-{FORGED}" / "dwi"
    folder.mkdir(parents=True)
    for image, bval in (("b0", "0"), ("b1000", "1000")):
        shutil.copy(place.new / "n1" / f"{image}.nii.gz", folder / f"sub-x_acq-{image}_dwi.nii.gz")
        (folder / f"sub-x_acq-{image}_dwi.bval").write_text(bval)
    return _predict(place, str(place.root / "bids"))


def _bundle(place: Place) -> list[str]:
    file = place.bundle / "bundle.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"run_name": FORGED, "notice": FORGED}))
    return ["predict", str(place.new), "-m", str(place.bundle), "-o", str(place.out), "--device", "cpu"]


def _participants(place: Place) -> list[str]:
    table = 'participant_id\tpatient_id\tsite\np0\tp0\t"a\nerror: all is lost\x1b[2K"\n'
    (place.cohort / "participants.tsv").write_text(table)
    return ["verify", "-i", str(place.cohort), "--workers", "1"]


def _plain_results(place: Place) -> None:
    for file in place.out.rglob("*.txt"):
        assert "\x1b" not in file.read_text()
        assert "\nerror: all is lost" not in file.read_text()
