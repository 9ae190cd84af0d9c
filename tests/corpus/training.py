"""Runs, checkpoints and bundles that were damaged, replaced or made by somebody else, before `train` and `convert`."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import yaml

from corpus.registry import Place, Variant

FOLD = Path("tiny", "fold_0")
Change = Callable[[Path], object]


def variants() -> Iterator[Variant]:
    """What a run's folder may hold before it goes on, and a bundle's before it is replaced."""
    done = "best of 1 epochs"
    for name, content in (("damaged", b"{"), ("nested", b"[" * 100_000), ("of-other-types", b'{"run_id": 1}')):
        for file in ("run.json", "done.json"):
            yield Variant(f"train-{file}-{name}", "train", _go_on(_write(file, content)), "warning", "again")
    yield Variant(
        "train-settings-and-table-damaged", "train", _go_on(_others), "warning", "only training makes it: metrics.csv"
    )
    torn = _write("last.ckpt", b"x")
    yield Variant("train-finished-checkpoint-damaged", "train", _go_on(torn), "error", "delete the fold's folder")
    yield Variant("train-run-record-a-pipe", "train", _go_on(_pipe("run.json")), "error", "regular file")
    yield Variant("train-run-record-gone", "train", _go_on(_gone("run.json")), "success", done)
    yield Variant("train-run-record-of-somebody-else", "train", _go_on(_foreign_record), "error", "its own hash")
    last = {"damaged": _write("last.ckpt", b"x"), "gone": _gone("last.ckpt"), "a-pipe": _pipe("last.ckpt")}
    for name, change in last.items():
        goes_on = _go_on(_gone("done.json"), change)
        yield Variant(f"train-last-checkpoint-{name}", "train", goes_on, "warning", "resumes from best.ckpt")
    lost = _go_on(_gone("done.json"), _write("best.ckpt", b"x"))
    yield Variant("train-best-checkpoint-damaged", "train", lost, "warning", "made again")
    yield Variant(
        "train-over-somebodys-files", "train", _foreign, "error", "not written by fvv", also=_foreign_is_there
    )
    yield Variant("train-disk-full", "train", _train, "error", "cannot write", file_limit=100_000)
    yield Variant("train-control-characters-in-a-name", "train", _named("a\x1b[2K\nerror: b"), "error", "train.name")
    yield Variant("convert-control-characters-in-a-notice", "convert", _noticed, "error", "convert.notice")
    yield Variant("convert-checkpoint-a-pipe", "convert", _convert_pipe, "error", "regular file")
    yield Variant("convert-choices-a-pipe", "convert", _choices_pipe, "error", "regular file")
    yield Variant("convert-choices-fold-of-truth", "convert", _choices_true, "error", "fold: checkpoint")
    yield Variant("convert-over-a-bundle-of-others", "convert", _convert_over_bundle, "error", "--overwrite")
    yield Variant("convert-over-a-damaged-bundle", "convert", _convert_over_damage, "error", "damaged bundle.json")


def _train(place: Place) -> list[str]:
    return ["train", "--fold", "0", "-i", str(place.store), "-o", str(place.out), "-c", str(place.base / "tiny.yaml")]


def _convert(place: Place, *more: str) -> list[str]:
    where = ("-i", str(place.trained), "--store", str(place.store), "-o", str(place.out))
    return ["convert", "-n", "tiny", *where, *more]


def _go_on(*changes: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        shutil.copytree(place.base / "trained", place.out)
        for change in changes:
            change(place.out / FOLD)
        return _train(place)

    return build


def _write(name: str, content: bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content)


def _gone(name: str) -> Change:
    return lambda folder: (folder / name).unlink()


def _pipe(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


def _others(folder: Path) -> None:
    for name in ("config.yaml", "metrics.csv"):
        (folder / name).write_bytes(bytes(range(256)))


def _foreign_record(folder: Path) -> None:
    (folder / ".fvv.json").unlink()
    (folder / "run.json").write_text(json.dumps({"distance_km": 10}))


def _foreign(place: Place) -> list[str]:
    (place.out / FOLD).mkdir(parents=True)
    (place.out / FOLD / "best.ckpt").write_text("years of work")
    return _train(place)


def _foreign_is_there(place: Place) -> None:
    assert (place.out / FOLD / "best.ckpt").read_text() == "years of work"


def _named(name: str) -> Callable[[Place], list[str]]:
    return lambda place: [*_train(place), "-n", name]


def _noticed(place: Place) -> list[str]:
    settings = {"convert": {"notice": "good models\x1b[2K\nerror: none"}}
    (place.root / "notice.yaml").write_text(yaml.safe_dump(settings))
    return _convert(place, "-c", "notice.yaml")


def _convert_pipe(place: Place) -> list[str]:
    os.mkfifo(place.root / "mine.ckpt")
    return _convert(place, "--model", f"0={place.root / 'mine.ckpt'}")


def _choices_pipe(place: Place) -> list[str]:
    os.mkfifo(place.root / "choices.yaml")
    return _convert(place, "--models-file", "choices.yaml")


def _choices_true(place: Place) -> list[str]:
    (place.root / "choices.yaml").write_text("true: best.ckpt")
    return _convert(place, "--models-file", "choices.yaml")


def _convert_over_bundle(place: Place) -> list[str]:
    shutil.copytree(place.base / "bundle", place.out)
    return _convert(place)


def _convert_over_damage(place: Place) -> list[str]:
    shutil.copytree(place.base / "bundle", place.out)
    (place.out / "bundle.json").write_text("{")
    return _convert(place, "--overwrite")
