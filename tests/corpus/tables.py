"""Tables, settings and words of the command line."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator

from corpus.registry import Place, Variant
from fvv.io.ownership import claim
from fvv.io.sealed import sealed

GOOD = "participant_id\tpatient_id\tsite\tdwi_flair_mismatch\np0\ta\tx\t1\np1\tb\tx\t0\np2\tc\ty\tn/a\np3\td\ty\t1\n"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)
PARTICIPANTS: dict[str, tuple[bytes, str, str]] = {
    "empty": (b"", "error", "participant_id"),
    "header-alone": (b"participant_id\tsite\n", "error", "4 folders have no row"),
    "without-ids": (b"name\tsite\np0\tx\n", "error", "lacks column participant_id"),
    "comma-separated": (GOOD.replace("\t", ",").encode(), "error", "separated by commas"),
    "semicolon-separated": (GOOD.replace("\t", ";").encode(), "error", "separated by semicolons"),
    "listed-twice": ((GOOD + "p0\ta\tx\t1\n").encode(), "error", "listed twice"),
    "label-of-words": (GOOD.replace("\t1\n", "\tyes\n").encode(), "error", "must be 1 (mismatch), 0 (none) or n/a"),
    "label-of-2": (GOOD.replace("\t1\n", "\t2\n").encode(), "error", "must be 1 (mismatch), 0 (none) or n/a"),
    "label-with-decimal-comma": (GOOD.replace("\t1\n", "\t1,0\n").encode(), "error", "got '1,0'"),
    "label-with-decimals": (GOOD.replace("\t1\n", "\t1.0\n").encode(), "success", "4 persons"),
    "ragged": ((GOOD + "p4\ta\n").encode(), "error", "number of cells"),
    "too-many-cells": ((GOOD + "p4\ta\tb\t1\t5\n").encode(), "error", "number of cells"),
    "column-twice": (GOOD.replace("site", "patient_id").encode(), "error", "twice"),
    "column-nearly-right": (GOOD.replace("patient_id", "patientid").encode(), "error", "resembles patient_id"),
    "column-in-other-case": (GOOD.replace("patient_id", "Patient_ID").encode(), "error", "resembles patient_id"),
    "column-cut-short": (GOOD.replace("dwi_flair_", "").encode(), "error", "resembles dwi_flair_mismatch"),
    "binary": (bytes(range(256)), "error", "utf-8"),
    "utf-16": (GOOD.encode("utf-16"), "error", "utf-8"),
    "latin-1": (GOOD.replace("\tx\t", "\té\t").encode("latin-1"), "error", "utf-8"),
    "nul-bytes": (GOOD.replace("p0", "p\x000").encode(), "error", "printable text"),
    "escape-codes": (GOOD.replace("\ta\t", "\ta\x1b[2J\t").encode(), "error", "printable text"),
    "enormous-cell": (GOOD.replace("x", "x" * 200_000).encode(), "error", "not a table"),
    "unclosed-quote": (GOOD.replace("\ta\t", '\t"a\t').encode(), "error", "quote"),
    "quote-over-lines": (GOOD.replace("\ta\t", '\t"a\t').replace("\tc\t", '\tc"\t').encode(), "error", "quote"),
    "byte-order-mark": (b"\xef\xbb\xbf" + GOOD.encode(), "success", "4 persons"),
    "windows-lines": (GOOD.replace("\n", "\r\n").encode(), "success", "4 persons"),
    "blank-lines": (GOOD.replace("\n", "\n\n \t\t\t\n").encode(), "success", "4 persons"),
    "path-for-id": ((GOOD + "../../etc\tz\tx\t1\n").encode(), "error", "name of a folder"),
    "absolute-path-for-id": ((GOOD + "/etc/passwd\tz\tx\t1\n").encode(), "error", "name of a folder"),
    "absent-patient": ((GOOD + "p9\tz\tx\t1\n").encode(), "failure", "no such folder"),
    "unlisted-patient": (GOOD.replace("p3\td\ty\t1\n", "").encode(), "error", "1 folders have no row (p3)"),
    "ids-of-bids": (GOOD.replace("\np", "\nsub-p").encode(), "error", "p0 for sub-p0, p1 for sub-p1"),
    "ids-with-decimals": (GOOD.replace("\tb", ".0\tb").encode(), "error", "p1 for p1.0"),
    "ids-with-zeros": (GOOD.replace("\np", "\np00").encode(), "error", "p0 for p000"),
    "ids-of-others": (GOOD.replace("\np", "\nvisit").encode(), "error", "4 rows have no folder (visit0"),
    "persons-in-two-cases": (GOOD.replace("\tb\t", "\tA\t").encode(), "error", "same but for case"),
    "person-of-no-number": (GOOD.replace("\tb\t", "\tNaN\t").encode(), "error", "no person"),
    "one-person-four-folders": (GOOD.replace("\tb\t", "\ta\t").encode(), "success", "3 persons"),
}
SETTINGS: dict[str, tuple[bytes, str]] = {
    "unknown-section": (b"trian: {epochs: 3}\n", "no such setting"),
    "unknown-key": (b"prepare: {kfold: 3}\n", "no such setting"),
    "wrong-type": (b"prepare: {kfolds: many}\n", "prepare.kfolds"),
    "out-of-range": (b"prepare: {kfolds: -1}\n", "prepare.kfolds"),
    "not-a-number": (b"prepare: {valid_proportion: .nan}\n", "prepare.valid_proportion"),
    "list": (b"- 1\n- 2\n", "mapping"),
    "scalar": (b"prepare\n", "mapping"),
    "section-is-a-number": (b"prepare: 3\n", "prepare"),
    "number-for-a-key": (b"1: 2\n", "1"),
    "code-tag": (b"prepare: !!python/object/apply:os.system ['touch owned']\n", "cannot read settings"),
    "object-tag": (b"prepare: !!python/name:os.system\n", "cannot read settings"),
    "not-yaml": (b"prepare: [unclosed\n", "cannot read settings"),
    "tab-indented": (b"prepare:\n\tkfolds: 3\n", "cannot read settings"),
    "binary": (bytes(range(256)), "cannot read settings"),
    "a-billion-laughs": (LAUGHS.encode(), "more than 20 aliases"),
    "laughs-in-a-value": (LAUGHS.encode() + b"prepare: {kfolds: *i}\n", ""),
    "itself-within": (b"prepare: &a [*a]\n", "prepare"),
    "deeply-nested": (b"prepare: " + b"[" * 20_000, "cannot read settings"),
}
SPLITS: dict[str, tuple[str, str]] = {
    "empty": ("", "lacks column"),
    "without-folds": ("examination_id\tperson_id\np0\tp0\n", "lacks column fold_0"),
    "unknown-role": ("examination_id\tperson_id\tfold_0\np0\tp0\tjudge\n", "train, valid, test"),
    "folds-out-of-order": ("examination_id\tperson_id\tfold_1\tfold_0\np0\tp0\ttrain\ttest\n", "in order"),
    "person-on-two-sides": (
        "examination_id\tperson_id\tfold_0\np0\ta\ttrain\np1\ta\ttest\np2\tc\tvalid\np3\td\ttrain\n",
        "one person",
    ),
    "patient-twice": ("examination_id\tperson_id\tfold_0\np0\ta\ttrain\np0\ta\ttrain\n", "more than once"),
    "other-persons": ("participant_id\tpatient_id\tfold_0\np0\ta\ttrain\np1\tb\ttest\n", "p0 is a in the given split"),
    "names-of-escape-codes": ("examination_id\tperson_id\tfold_0\np\x1b[2J\ta\ttrain\n", "names on one line"),
    "persons-in-two-cases": (
        "examination_id\tperson_id\tfold_0\np0\ta\ttrain\np1\tA\ttest\n",
        "same but for case",
    ),
    "nobody-tests": ("examination_id\tperson_id\tfold_0\np0\tp0\ttrain\np1\tp1\ttrain\n", "no test patient"),
    "header-alone": ("examination_id\tperson_id\tfold_0\n", "no patient"),
    "strangers-alone": ("examination_id\tperson_id\tfold_0\n../x\t../x\ttrain\ny\ty\ttest\n", "no patient"),
}
WORDS: dict[str, tuple[list[str], str, str]] = {
    "no-verb": ([], "usage", "VERB"),
    "unknown-verb": (["perdict"], "usage", "perdict"),
    "unknown-option": (["predict", "--turbo"], "usage", "--turbo"),
    "fold-of-words": (["train", "--fold", "one"], "usage", "--fold"),
    "set-without-value": (["prepare", "--set", "prepare.kfolds"], "usage", "KEY=VALUE"),
    "set-unknown": (["prepare", "--set", "prepare.kfold=3"], "error", "no such setting"),
    "set-through-a-value": (["prepare", "--set", "prepare.kfolds.x=3"], "error", "prepare.kfolds"),
    "set-nothing": (["prepare", "--set", ".=3"], "error", "setting"),
    "negative-kfolds": (["prepare", "-k", "-3"], "error", "kfolds"),
    "settings-file-missing": (["prepare", "-c", "nowhere.yaml"], "error", "nowhere.yaml"),
    "settings-file-is-a-folder": (["prepare", "-c", "."], "error", "cannot read settings"),
    "run-name-climbs": (["train", "--fold", "0", "-n", "../../x"], "error", "train.name"),
    "run-name-absolute": (["train", "--fold", "0", "-n", "/root/x"], "error", "train.name"),
    "run-name-empty": (["train", "--fold", "0", "-n", ""], "error", "train.name"),
}


def variants() -> Iterator[Variant]:
    """participants.tsv, settings, split files, words."""
    for name, (content, outcome, says) in PARTICIPANTS.items():
        yield Variant(f"verify-participants-{name}", "verify", _verify(content), outcome, says)
    for name in ("prepare", "evaluate"):
        yield Variant(f"{name}-participants-of-others", name, _of_others(name), "error", "4 rows have no folder")
    yield Variant("verify-participants-pipe", "verify", _participants_pipe, "error", "regular file")
    yield Variant("verify-participants-broken-link", "verify", _participants_link, "error", "broken link")
    yield Variant("verify-participants-as-csv", "verify", _participants_csv, "error", "this resembles it")
    yield Variant("prepare-split-pipe", "prepare", _split_pipe, "error", "regular file")
    yield Variant("verify-participants-folder", "verify", _participants_folder, "error", "participants.tsv")
    for name, (content, says) in SETTINGS.items():
        yield Variant(f"prepare-settings-{name}", "prepare", _settings(content), "error", says, also=_not_owned)
    for name, (text, says) in SPLITS.items():
        yield Variant(f"prepare-split-{name}", "prepare", _split(text), "error", says, writes=("prepared",))
    for name, (words, outcome, says) in WORDS.items():
        yield Variant(f"words-{name}", "words", lambda _, words=words: words, outcome, says)
    yield Variant("convert-choices-code-tag", "convert", _choices("!!python/object/apply:os.abort []"), "error", "read")
    yield Variant("convert-choices-list", "convert", _choices("[1, 2]"), "error", "fold: checkpoint")
    yield Variant("convert-choices-unknown-fold", "convert", _choices("7: best.ckpt"), "error", "fold 7")
    yield Variant(
        "simulate-damaged-record", "simulate", _simulation("{"), "success", "is made again", writes=("earlier",)
    )
    yield Variant(
        "simulate-record-deeply-nested",
        "simulate",
        _simulation("[" * 50_000),
        "success",
        "is made again",
        writes=("earlier",),
    )
    yield Variant(
        "simulate-record-of-another-version",
        "simulate",
        _simulation(json.dumps(sealed({"schema_version": 99, "settings": {}, "case": {}}))),
        "error",
        "already",
    )
    yield Variant(
        "simulate-record-a-list",
        "simulate",
        _simulation(json.dumps([1])),
        "success",
        "is made again",
        writes=("earlier",),
    )


def _verify(content: bytes) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.cohort / "participants.tsv").write_bytes(content)
        return ["verify", "-i", str(place.cohort), "--workers", "1"]

    return build


def _participants_folder(place: Place) -> list[str]:
    (place.cohort / "participants.tsv").mkdir()
    return ["verify", "-i", str(place.cohort), "--workers", "1"]


def _of_others(verb: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.cohort / "participants.tsv").write_text(GOOD.replace("\np", "\nvisit"))
        if verb == "prepare":
            return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-k", "3", "--workers", "1"]
        return ["evaluate", "--external", str(place.cohort), "-m", str(place.bundle), "-o", str(place.out)]

    return build


def _participants_pipe(place: Place) -> list[str]:
    os.mkfifo(place.cohort / "participants.tsv")
    return ["verify", "-i", str(place.cohort), "--workers", "1"]


def _participants_link(place: Place) -> list[str]:
    (place.cohort / "participants.tsv").symlink_to(".git/annex/objects/a")
    return ["verify", "-i", str(place.cohort), "--workers", "1"]


def _participants_csv(place: Place) -> list[str]:
    (place.cohort / "participants.csv").write_text(GOOD.replace("\t", ","))
    return ["verify", "-i", str(place.cohort), "--workers", "1"]


def _split_pipe(place: Place) -> list[str]:
    os.mkfifo(place.root / "folds.tsv")
    return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "--split", "folds.tsv", "--workers", "1"]


def _settings(content: bytes) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.root / "settings.yaml").write_bytes(content)
        return ["prepare", "-i", str(place.root), "-o", str(place.out), "-c", "settings.yaml"]

    return build


def _not_owned(place: Place) -> None:
    assert not list(place.root.rglob("owned"))


def _split(text: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.root / "folds.tsv").write_text(text)
        words = ["-i", str(place.cohort), "-o", str(place.prepared), "--split", "folds.tsv"]
        return ["prepare", *words, "-k", "3", "--workers", "1"]

    return build


def _choices(text: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        (place.root / "choices.yaml").write_text(text)
        where = ["-i", str(place.trained), "--store", str(place.store), "-o", str(place.out)]
        return ["convert", "-n", "tiny", "--models-file", "choices.yaml", *where]

    return build


def _simulation(text: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        record = place.root / "earlier" / "sim_0001" / "simulation.json"
        claim(place.root / "earlier", ["sim_0001", "participants.tsv"])
        record.parent.mkdir(parents=True)
        record.write_text(text)
        return ["simulate", "-o", str(place.root / "earlier"), "--cases", "1", "--workers", "1"]

    return build
