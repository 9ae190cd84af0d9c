"""Cohorts whose patients are missing, wrong or another's, and stores that are there before `prepare` runs again."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator

from corpus.registry import Place, Variant
from fvv.config import PROFILES
from fvv.io.store import CaseStore

Change = Callable[[Place], None]
DAMAGE = {
    "empty": b"",
    "cut-off": b'{"schema_version": 1, "ro',
    "a-list": b"[]",
    "null": b"null",
    "binary": b"\xff\xfe",
}


def variants() -> Iterator[Variant]:
    """`verify` and `prepare` with what is missing or wrong; `prepare` into a store that is damaged or another's."""
    for name, (change, says) in AWAY.items():
        yield Variant(f"verify-{name}", "verify", _verify(change), "failure", says)
        yield Variant(f"prepare-{name}", "prepare", _again(change), "failure", says, also=_all_kept)
    for name, (change, says) in UNUSABLE.items():
        yield Variant(f"verify-{name}", "verify", _verify(change), "failure", says)
        yield Variant(f"prepare-{name}", "prepare", _again(change), "failure", says, also=_not_learned_from)
        yield Variant(f"verify-{name}-warned", "verify", _verify(change, "--quality", "warn"), "warning", says)
    yield Variant("verify-two-folders-in-two-cases", "verify", _verify(_two_cases), "error", "but for case")
    yield Variant("prepare-another-cohort", "prepare", _again(_another_cohort), "error", "holds 4", also=_all_kept)
    yield Variant("prepare-every-folder-away", "prepare", _again(_all_away), "error", "none of the 4", also=_all_kept)
    yield Variant("prepare-over-files-of-others", "prepare", _over_notes, "error", "did not write", also=_notes_kept)
    yield Variant("prepare-into-the-data-set", "prepare", _into_the_data_set, "error", "as a patient")
    yield Variant("prepare-other-settings-after-an-edit", "prepare", _other_settings, "error", "edited or given")
    for file in ("store.json", "split.json", "failures.csv", "cases/p1.zarr/zarr.json"):
        for name, content in DAMAGE.items():
            change = _damaged(file, content)
            stem = file.rpartition("/")[2].partition(".")[0]
            yield Variant(
                f"prepare-stored-{stem}-{name}", "prepare", _again(change), "success", "4 patients", also=_all_kept
            )
    for name, content in DAMAGE.items():
        again = _again(_damaged("folds.tsv", content))
        yield Variant(f"prepare-stored-folds-{name}", "prepare", again, "error", "writes the last split again")
    yield Variant("train-store-of-two-profiles", "train", _two_profiles, "error", "another profile")


def _away(place: Place) -> None:
    shutil.rmtree(place.cohort / "p1")


def _broken(place: Place) -> None:
    _away(place)
    (place.cohort / "p1").symlink_to("unmounted/p1")


def _not_fetched(place: Place) -> None:
    (place.cohort / "p1" / "b0.nii.gz").unlink()
    (place.cohort / "p1" / "b0.nii.gz").symlink_to("../.git/annex/objects/a")


def _listed_and_away(place: Place) -> None:
    _away(place)
    (place.cohort / "participants.tsv").write_text("participant_id\np0\np1\np2\np3\n")


def _swapped(place: Place) -> None:
    one, two = place.cohort / "p1" / "b0.nii.gz", place.cohort / "p1" / "b1000.nii.gz"
    aside = one.rename(one.with_name("x"))
    two.rename(one)
    aside.rename(two)


AWAY: dict[str, tuple[Change, str]] = {
    "folder-a-broken-link": (_broken, "broken link to unmounted/p1"),
    "folder-listed-and-away": (_listed_and_away, "no such folder"),
    "image-not-fetched": (_not_fetched, "b0"),
}
UNUSABLE: dict[str, tuple[Change, str]] = {"images-swapped": (_swapped, "not assessable")}


def _two_cases(place: Place) -> None:
    shutil.copytree(place.cohort / "p1", place.cohort / "P1")


def _another_cohort(place: Place) -> None:
    for number in range(4):
        (place.cohort / f"p{number}").rename(place.cohort / f"other{number}")


def _all_away(place: Place) -> None:
    for number in range(4):
        shutil.rmtree(place.cohort / f"p{number}")
        (place.cohort / f"p{number}").symlink_to("unmounted")


def _damaged(file: str, content: bytes) -> Change:
    return lambda place: (place.out / file).write_bytes(content) and None


def _verify(change: Change, *words: str) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place)
        return ["verify", "-i", str(place.cohort), "--workers", "1", *words]

    return build


def _again(change: Change, *words: str) -> Callable[[Place], list[str]]:
    """`prepare` into the store of the sound cohort, after a change of one of them."""

    def build(place: Place) -> list[str]:
        shutil.copytree(place.base / "prepared", place.out)
        change(place)
        return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-k", "3", "--workers", "1", *words]

    return build


def _over_notes(place: Place) -> list[str]:
    place.out.mkdir()
    (place.out / "folds.tsv").write_text("mine")
    return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-k", "3", "--overwrite"]


def _into_the_data_set(place: Place) -> list[str]:
    return ["prepare", "-i", str(place.cohort), "-o", str(place.cohort / "store"), "-k", "3"]


def _other_settings(place: Place) -> list[str]:
    def edit(place: Place) -> None:
        file = place.out / "folds.tsv"
        head, *rows = (line.split("\t") for line in file.read_text().splitlines())
        exchanged = [[*row[:2], row[3], row[2], *row[4:]] for row in rows]
        file.write_text("".join("\t".join(row) + "\n" for row in [head, *exchanged]))

    return _again(edit, "--seed", "5")(place)


def _two_profiles(place: Place) -> list[str]:
    CaseStore.create(place.store, PROFILES["robust-v1"].model_copy(update={"clip": 9.0}))
    settings = str(place.base / "tiny.yaml")
    return ["train", "--fold", "0", "-i", str(place.store), "-o", str(place.out), "-c", settings]


def _all_kept(place: Place) -> None:
    """All that was stored is there, and the split is what it was."""
    store = CaseStore.open(place.out)
    assert [store.record(name).participant.examination_id for name in store.participants] == ["p0", "p1", "p2", "p3"]
    assert (place.out / "folds.tsv").read_bytes() == (place.base / "prepared" / "folds.tsv").read_bytes()


def _not_learned_from(place: Place) -> None:
    assert CaseStore.open(place.out).participants == ("p0", "p1", "p2", "p3")
    assert "p1" not in (place.out / "folds.tsv").read_text()


def _notes_kept(place: Place) -> None:
    assert [(item.name, item.read_text()) for item in place.out.iterdir()] == [("folds.tsv", "mine")]
