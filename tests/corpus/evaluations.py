"""Evaluations: other people's files in the output folder, and damage of an evaluation's own files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from corpus.registry import Place, Variant

Change = Callable[[dict[str, Any]], object]
THEIRS = ("patients/mine.json", "masks/p0.nii.gz", "methods.md", "tables.tex", "figures/roc.pdf", "report.html")
DAMAGE: dict[str, tuple[str, Change | bytes]] = {
    "summary-empty": ("summary.json", b""),
    "summary-a-list": ("summary.json", b"[1]"),
    "summary-without-settings": ("summary.json", lambda content: content.pop("settings")),
    "summary-counts-null": ("summary.json", lambda content: content.update(counts=None)),
    "record-truncated": ("record", b'{"schema'),
    "record-without-a-channel": ("record", lambda content: content["result"].pop("stroke")),
    "record-channel-a-number": ("record", lambda content: content["result"].update(stroke=3)),
    "record-volume-edited": ("record", lambda content: content["result"]["stroke"].update(reference_volume_ml=1.0)),
}
"""File (record: that of the first patient), and its new content or what is changed in it."""


def variants() -> Iterator[Variant]:
    """Folders in which `evaluate`, `report` and `card` write."""
    for theirs in THEIRS:
        for options in ((), ("--overwrite",)):
            name = f"evaluate-over-{theirs.replace('/', '-')}{''.join(options)}"
            yield Variant(name, "evaluate", _over(theirs, options), "error", "not written by fvv")
    for name, (file, change) in DAMAGE.items():
        yield Variant(f"report-{name}", "report", _report(file, change), "error", "fvv evaluate", writes=("evaluated",))
        again = _again(file, change)
        yield Variant(f"evaluate-again-{name}", "evaluate", again, "success", "patients tested", writes=("evaluated",))
    yield Variant(
        "report-without-a-record", "report", _report("record", None), "error", "evaluate", writes=("evaluated",)
    )
    yield Variant("card-over-a-file", "card", _card, "error", "no model card of this program", also=_thesis_stays)
    for value in ("nan", "inf", "-inf", "-1", "0"):
        words = ["decide", ".", "--cutoff", value] if value[0] != "-" else ["decide", ".", f"--cutoff={value}"]
        yield Variant(f"decide-cutoff-{value}", "decide", lambda _, words=words: words, "error", "decision.cutoff_ml")
    for stage in ("evaluate", "predict"):
        words = ["predict", ".", "--set", f"{stage}.decision.cutoff_ml=1"]
        yield Variant(
            f"words-{stage}-decision", "words", lambda _, words=words: words, "error", "set decision.cutoff_ml"
        )


def _over(theirs: str, options: tuple[str, ...]) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        file = place.root / "earlier" / theirs
        file.parent.mkdir(parents=True)
        file.write_text("mine")
        where = ("-i", str(place.store), "-m", str(place.bundle), "-o", str(place.root / "earlier"))
        return ["evaluate", *where, *options]

    return build


def _damage(place: Place, file: str, change: Change | bytes | None) -> None:
    path: Path = sorted((place.evaluated / "patients").iterdir())[0] if file == "record" else place.evaluated / file
    if change is None:
        path.unlink()
    elif isinstance(change, bytes):
        path.write_bytes(change)
    else:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))


def _report(file: str, change: Change | bytes | None) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        _damage(place, file, change)
        return ["report", "-i", str(place.evaluated)]

    return build


def _again(file: str, change: Change | bytes | None) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        _damage(place, file, change)
        where = ("-i", str(place.store), "-m", str(place.bundle), "-o", str(place.evaluated))
        return ["evaluate", *where, "-c", str(place.base / "tiny.yaml")]

    return build


def _card(place: Place) -> list[str]:
    (place.root / "thesis.md").write_text("# Mine")
    where = ("-m", str(place.bundle), "--out-of-fold", str(place.evaluated))
    return ["card", *where, "-o", str(place.root / "thesis.md")]


def _thesis_stays(place: Place) -> None:
    assert (place.root / "thesis.md").read_text() == "# Mine"
