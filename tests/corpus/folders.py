"""Folders, names, rights and disks as they are met outside."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock

from corpus.registry import Place, Variant

ODD_NAMES = {
    "space": "patient one",
    "quotes": 'it\'s "quoted"',
    "unicode": "Müller_患者_π",
    "combining": "Mu\u0308ller",
    "leading-dash": "-rf",
    "percent-and-braces": "%s{0}$HOME",
    "comma-and-equals": "=1+1,2",
    "html": "<img src=x onerror=alert(1)>",
    "glob": "p[0]*?",
    "dot-zarr": "p.zarr",
    "two-hundred-letters": "x" * 200,
}
BAD_NAMES = {
    "newline": "p1\nerror: all is lost",
    "escape-sequence": "p\x1b[31m",
    "bytes-that-are-no-text": os.fsdecode(b"p\xff\xfe"),
}


def variants() -> Iterator[Variant]:
    """Names, then what is missing or in the way, then rights and disks."""
    for name, folder in ODD_NAMES.items():
        yield Variant(f"prepare-named-{name}", "prepare", _prepare_named(folder), "success", "4 patients prepared")
        yield Variant(
            f"predict-named-{name}", "predict", _predict_named(folder), "success", "2 patients", also=_no_raw_html
        )
    for name, folder in BAD_NAMES.items():
        yield Variant(f"verify-named-{name}", "verify", _verify_named(folder), "error", "rename")
        yield Variant(f"predict-named-{name}", "predict", _predict_named(folder), "error", "rename")
    yield from _missing_and_in_the_way()
    yield from _rights_and_disks()


def _missing_and_in_the_way() -> Iterator[Variant]:
    yield Variant("verify-no-folder", "verify", lambda p: _verify(p.root / "nowhere"), "error", "no such folder")
    yield Variant("verify-file-as-cohort", "verify", _file_as_cohort, "error", "no such folder")
    yield Variant("verify-empty-cohort", "verify", _empty_cohort, "error", "no patient")
    yield Variant("verify-patients-as-files", "verify", _patients_as_files, "error", "no patient")
    yield Variant("verify-patient-linked-to-itself", "verify", _loop, "failure", "broken link")
    yield Variant("verify-cohort-within-itself", "verify", _within_itself, "failure", "missing")
    yield Variant("prepare-no-folder", "prepare", _prepare_nowhere, "error", "no such folder")
    yield Variant("prepare-output-is-a-file", "prepare", _output_is_file, "error", "out")
    yield Variant("prepare-output-below-a-file", "prepare", _output_below_file, "error", "out")
    yield Variant("prepare-output-held-by-another", "prepare", _held(_prepare), "error", "another fvv process")
    yield Variant("predict-output-held-by-another", "predict", _held(_predict), "error", "another fvv process")
    yield Variant("simulate-output-held-by-another", "simulate", _held(_simulate), "error", "another fvv process")
    yield Variant("evaluate-output-held-by-another", "evaluate", _held(_evaluate), "error", "another fvv process")
    convert = _held(_convert, ".out.fvv.lock")
    yield Variant("convert-output-held-by-another", "convert", convert, "error", "another fvv process")
    train = _held(_train, "out/tiny/fold_0/.fvv.lock")
    yield Variant("train-fold-held-by-another", "train", train, "error", "another fvv process")
    yield Variant("predict-no-folder", "predict", _predict_nowhere, "error", "no such folder")
    yield Variant("predict-results-already-there", "predict", _already_there, "error", "not written by fvv")
    yield Variant("predict-output-is-a-file", "predict", _predict_into_file, "error", "out")
    yield Variant("predict-one-patient-empty", "predict", _empty_patient, "failure", "missing")
    yield Variant("simulate-output-is-a-file", "simulate", _simulate_into_file, "error", "out")
    yield Variant("simulate-over-other-folder", "simulate", _simulate_over, "error", "already there")
    yield Variant("convert-over-other-folder", "convert", _convert_over, "error", "other than a bundle")
    yield Variant("evaluate-already-there", "evaluate", _evaluate_over, "error", "not written by fvv")


def _rights_and_disks() -> Iterator[Variant]:
    user = {"as_user": True}
    yield Variant("verify-unreadable-file", "verify", _locked("p1/b0.nii.gz", _verify_cohort), "failure", "b0", **user)
    yield Variant("verify-unreadable-patient", "verify", _locked("p1", _verify_cohort), "failure", "p1", **user)
    yield Variant("prepare-unreadable-file", "prepare", _locked("p1/b0.nii.gz", _prepare), "failure", "b0", **user)
    yield Variant("prepare-unreadable-patient", "prepare", _locked("p1", _prepare), "failure", "p1", **user)
    yield Variant("verify-unreadable-cohort", "verify", _locked(".", _verify_cohort), "error", "cohort", **user)
    yield Variant("prepare-read-only-output", "prepare", _read_only(_prepare), "error", "cannot write", **user)
    yield Variant("predict-read-only-output", "predict", _read_only(_predict), "error", "cannot write", **user)
    yield Variant("simulate-read-only-output", "simulate", _read_only(_simulate), "error", "cannot write", **user)
    yield Variant("predict-beside-read-only-images", "predict", _beside, "error", "cannot write", **user)
    disk = {"file_limit": 20_000}
    yield Variant("prepare-disk-full", "prepare", _prepare, "error", "cannot write", **disk)
    yield Variant("predict-disk-full", "predict", _predict, "failure", "cannot write", **disk)
    yield Variant("simulate-disk-full", "simulate", _simulate, "failure", "cannot write", **disk)
    yield Variant("evaluate-disk-full", "evaluate", _evaluate, "error", "cannot write", **disk)


def _verify(cohort: Path) -> list[str]:
    return ["verify", "-i", str(cohort), "--workers", "1"]


def _verify_cohort(place: Place) -> list[str]:
    return _verify(place.cohort)


def _prepare(place: Place) -> list[str]:
    return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-k", "3", "--workers", "1"]


def _predict(place: Place) -> list[str]:
    return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]


def _simulate(place: Place) -> list[str]:
    return ["simulate", "-o", str(place.out), "--cases", "1", "--workers", "1"]


def _evaluate(place: Place) -> list[str]:
    return ["evaluate", "-i", str(place.store), "-m", str(place.bundle), "-o", str(place.out)]


def _convert(place: Place) -> list[str]:
    where = ("-i", str(place.trained), "--store", str(place.store), "-o", str(place.out))
    return ["convert", "-n", "tiny", *where]


def _train(place: Place) -> list[str]:
    return ["train", "--fold", "0", "-i", str(place.store), "-o", str(place.out), "-c", str(place.base / "tiny.yaml")]


def _prepare_named(name: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.cohort / "p1").rename(place.cohort / name)
        return _prepare(place)

    return build


def _verify_named(name: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.cohort / "p1").rename(place.cohort / name)
        return _verify(place.cohort)

    return build


def _predict_named(name: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.new / "n1").rename(place.new / name)
        return _predict(place)

    return build


def _no_raw_html(place: Place) -> None:
    assert "<img src=x onerror" not in (place.out / "report.html").read_text()


def _file_as_cohort(place: Place) -> list[str]:
    path = place.root / "cohort.txt"
    path.write_text("patients")
    return _verify(path)


def _empty_cohort(place: Place) -> list[str]:
    path = place.root / "nobody"
    path.mkdir()
    return _verify(path)


def _patients_as_files(place: Place) -> list[str]:
    path = place.root / "files"
    path.mkdir()
    (path / "p0").write_text("")
    return _verify(path)


def _loop(place: Place) -> list[str]:
    (place.cohort / "loop").symlink_to("loop")
    return _verify(place.cohort)


def _within_itself(place: Place) -> list[str]:
    (place.cohort / "again").symlink_to(".")
    return _verify(place.cohort)


def _prepare_nowhere(place: Place) -> list[str]:
    return ["prepare", "-i", str(place.root / "nowhere"), "-o", str(place.out)]


def _output_is_file(place: Place) -> list[str]:
    place.out.write_text("mine")
    return _prepare(place)


def _output_below_file(place: Place) -> list[str]:
    place.out.write_text("mine")
    return ["prepare", "-i", str(place.cohort), "-o", str(place.out / "store"), "-k", "3", "--workers", "1"]


_held_locks: list[FileLock] = []


def _held(words: Callable[[Place], list[str]], lock_file: str = "out/.fvv.lock") -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.root / lock_file).parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place.root / lock_file)
        lock.acquire()
        _held_locks.append(lock)  # Held until this process ends: the verb runs in a child.
        return words(place)

    return build


def _predict_nowhere(place: Place) -> list[str]:
    return ["predict", str(place.root / "nowhere"), "-m", str(place.models)]


def _already_there(place: Place) -> list[str]:
    results = place.root / "earlier"
    results.mkdir()
    (results / "results.csv").write_text("Patient\nmine\n")
    return ["predict", str(place.new), "-m", str(place.models), "-o", str(results)]


def _predict_into_file(place: Place) -> list[str]:
    place.out.write_text("mine")
    return _predict(place)


def _empty_patient(place: Place) -> list[str]:
    (place.new / "n2").mkdir()
    return _predict(place)


def _simulate_into_file(place: Place) -> list[str]:
    place.out.write_text("mine")
    return _simulate(place)


def _simulate_over(place: Place) -> list[str]:
    folder = place.root / "earlier"
    (folder / "sim_0001").mkdir(parents=True)
    (folder / "sim_0001" / "notes.txt").write_text("mine")
    return ["simulate", "-o", str(folder), "--cases", "1", "--workers", "1"]


def _convert_over(place: Place) -> list[str]:
    folder = place.root / "earlier"
    folder.mkdir()
    (folder / "thesis.txt").write_text("mine")
    return [*_convert(place), "-o", str(folder)]


def _evaluate_over(place: Place) -> list[str]:
    folder = place.root / "earlier"
    folder.mkdir()
    (folder / "summary.json").write_text("{}")
    return ["evaluate", "-i", str(place.store), "-m", str(place.bundle), "-o", str(folder)]


def _locked(name: str, words: Callable[[Place], list[str]]) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.cohort / name).chmod(0)
        return words(place)

    return build


def _read_only(words: Callable[[Place], list[str]]) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        place.out.mkdir()
        place.out.chmod(0o555)
        return words(place)

    return build


def _beside(place: Place) -> list[str]:
    words = ["predict", str(place.new), "-m", str(place.models), "--device", "cpu"]
    place.new.chmod(0o555)
    return words
