"""Folders of results as later commands meet them: damaged, edited, stale, of others, of shards."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from corpus.registry import Place, Variant
from fvv.io.shards import SHARDS_FOLDER

Change = Callable[[Path], object]
Build = Callable[[Place], list[str]]

DAMAGES: dict[str, Change] = {
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "empty": lambda file: file.write_bytes(b""),
    "gone": lambda file: file.unlink(),
    "as-a-pipe": lambda file: (file.unlink(), os.mkfifo(file)),
    "as-a-broken-link": lambda file: (file.unlink(), file.symlink_to("nowhere")),
}
OWN = {"writes": ("predicted",)}


def variants() -> Iterator[Variant]:
    """Ownership, then damage met by `predict` and by `decide`, then cut-offs and shards."""
    yield from _ownership()
    for name, damage in DAMAGES.items():
        for file in ("predictions.nii.gz", "results.json", "synthesis.png"):
            word = f"{file.partition('.')[0]}-{name}"
            found = "1 kept" if (file, name) != ("results.json", "gone") else "2 patients"
            yield Variant(f"predict-on-{word}", "predict", _again(_damaged(file, damage)), "success", found, **OWN)
            yield Variant(f"decide-on-{word}", "decide", _decide(_damaged(file, damage)), "failure", file, **OWN)
    yield Variant("predict-on-edited-result", "predict", _again(_edited), "success", "1 kept", **OWN)
    yield Variant("decide-on-edited-result", "decide", _decide(_edited), "failure", "edited or damaged", **OWN)
    a_folder = _damaged("results.txt", lambda file: (file.unlink(), file.mkdir()))
    yield Variant("predict-on-results-as-a-folder", "predict", _again(a_folder), "failure", "a folder lies", **OWN)
    for name in ("run.json", "results.csv", "report.html", "failures.csv", ".fvv.json"):
        outcome = ("error", "another output folder") if name == ".fvv.json" else ("success", "2 kept")
        cut = _damaged_table(name)
        yield Variant(f"predict-on-truncated-{name}", "predict", _again(cut), *outcome, **OWN)
    yield Variant("decide-on-truncated-run", "decide", _decide(_damaged_table("run.json")), "error", "run.json", **OWN)
    yield Variant("decide-without-run", "decide", _decide(_without_run), "error", "has not ended", **OWN)
    yield Variant("decide-beside-a-copy", "decide", _decide(_with_copy), "success", "left out", also=_two_rows, **OWN)
    for cutoff in ("nan", "-1", "0", "inf", "1e999"):
        build = _decide(_nothing, cutoff)
        yield Variant(f"decide-at-{cutoff}", "decide", build, "error", "cut", **OWN)
    yield from _shards()


def _ownership() -> Iterator[Variant]:
    mine = "not written by fvv"
    yield Variant("simulate-over-real-cohort", "simulate", _simulate_over_cohort, "error", mine)
    yield Variant("simulate-over-real-cohort-overwrite", "simulate", _simulate_overwriting, "error", mine)
    for name in ("README.md", ".bidsignore", "sub-n0/notes.txt"):
        word = name.strip(".").partition(".")[0].replace("/", "-")
        yield Variant(f"predict-bids-over-{word}", "predict", _bids_over(name), "error", mine)
    yield Variant("predict-over-own-report", "predict", _beside(None, "report.html"), "error", mine)
    yield Variant(
        "predict-over-patients-own-file", "predict", _beside("n0", "synthesis.png"), "failure", mine, writes=("new",)
    )
    yield Variant("predict-again", "predict", _again(_nothing), "success", "2 kept", **OWN)
    yield Variant("predict-other-settings", "predict", _other_settings, "error", "--overwrite")
    yield Variant("predict-other-images", "predict", _again(_other_images), "error", "other images: n1")
    yield Variant("predict-part-of-a-cohort", "predict", _part, "error", "not in this run: n1")
    yield Variant("predict-names-equal-but-for-case", "predict", _twins, "error", "same name but for case")


def _shards() -> Iterator[Variant]:
    out = {"writes": ("predicted",)}
    yield Variant("predict-shard-beyond", "predict", lambda p: [*_predict(p), "--shard", "3/2"], "usage", "shard")
    yield Variant("predict-shard-of-words", "predict", lambda p: [*_predict(p), "--shard", "one"], "usage", "shard")
    yield Variant("predict-shard", "predict", lambda p: [*_predict(p), "--shard", "1/2"], "success", "fvv gather")
    yield Variant("gather-no-shards", "gather", _gather(_nothing), "error", "no shard", **out)
    yield Variant("gather-damaged-shard", "gather", _gather(_damaged_shard), "error", "run.json", **out)


def _predict(place: Place) -> list[str]:
    return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]


def _again(change: Callable[[Place], object]) -> Build:
    """The same command once more, on its own results."""

    def build(place: Place) -> list[str]:
        words = [*_predict(place), "-o", str(place.predicted)]
        change(place)
        return words

    return build


def _decide(change: Callable[[Place], object], cutoff: str = "3") -> Build:
    def build(place: Place) -> list[str]:
        words = ["decide", str(place.predicted), f"--cutoff={cutoff}"]
        change(place)
        return words

    return build


def _gather(change: Callable[[Place], object]) -> Build:
    def build(place: Place) -> list[str]:
        words = ["gather", str(place.predicted)]
        change(place)
        return words

    return build


def _nothing(_: Place) -> None:
    pass


def _damaged(name: str, damage: Change) -> Callable[[Place], object]:
    return lambda place: damage(place.predicted / "n1" / name)


def _damaged_table(name: str) -> Callable[[Place], object]:
    return lambda place: DAMAGES["truncated"](place.predicted / name)


def _edited(place: Place) -> None:
    file = place.predicted / "n1" / "results.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "FlairVizVoxels": 0.0}))


def _without_run(place: Place) -> None:
    (place.predicted / "run.json").unlink()


def _with_copy(place: Place) -> None:
    shutil.copytree(place.predicted, place.predicted / "copy")


def _two_rows(place: Place) -> None:
    assert len((place.predicted / "decisions_3_mL.csv").read_text().splitlines()) == 3


def _simulate_over_cohort(place: Place) -> list[str]:
    return ["simulate", "-o", str(place.cohort), "--cases", "1", "--workers", "1"]


def _simulate_overwriting(place: Place) -> list[str]:
    return [*_simulate_over_cohort(place), "--overwrite"]


def _bids_over(name: str) -> Build:
    def build(place: Place) -> list[str]:
        folder = place.root / "data_set"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")
        return [*_predict(place), "-o", str(folder), "--layout", "bids", "--overwrite"]

    return build


def _beside(patient: str | None, name: str) -> Build:
    def build(place: Place) -> list[str]:
        folder = place.new if patient is None else place.new / patient
        (folder / name).write_text("mine")
        return ["predict", str(place.new), "-m", str(place.models), "--device", "cpu", "--overwrite"]

    return build


def _other_settings(place: Place) -> list[str]:
    return [*_predict(place), "-o", str(place.predicted), "--cutoff", "2"]


def _other_images(place: Place) -> None:
    shutil.copy(place.new / "n0" / "b0.nii.gz", place.new / "n1" / "b0.nii.gz")


def _part(place: Place) -> list[str]:
    words = ["predict", str(place.new / "n0"), "-m", str(place.models), "--device", "cpu"]
    return [*words, "-o", str(place.predicted)]


def _twins(place: Place) -> list[str]:
    shutil.copytree(place.new / "n1", place.new / "N1")
    return _predict(place)


def _damaged_shard(place: Place) -> None:
    file = place.predicted / SHARDS_FOLDER / "1-of-2" / "run.json"
    file.parent.mkdir(parents=True)
    file.write_text("{}")
