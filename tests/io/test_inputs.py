"""Looking for examinations costs a network disk little, however many there are."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fvv.cohort.examinations import read_cohort
from fvv.config import PrepareConfig
from fvv.io.inputs import find_examinations, without_results
from fvv.stages.verify import verify

N = 20


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    for number in range(N):
        folder = tmp_path / "in" / f"p{number:02d}"
        folder.mkdir(parents=True)
        for name in ("b0", "b1000"):
            (folder / f"{name}.nii.gz").write_bytes(b"")
    return tmp_path / "in"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each path is looked at; each folder (its path and a slash) is listed."""
    counted: Counter[str] = Counter()

    def counting(name: str) -> None:
        original = getattr(os, name)

        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            counted[str(path)] += 1
            counted[f"{path}/"] += name in {"listdir", "scandir"}
            return original(path, *args, **kwargs)

        monkeypatch.setattr(os, name, call)

    for name in ("listdir", "scandir", "stat", "lstat"):
        counting(name)
    return counted


def test_each_examination_is_listed_once_and_its_files_are_not_looked_at(cohort: Path, looks: Counter[str]) -> None:
    found = without_results(find_examinations(cohort), cohort.parent / "out")
    assert len(found) == N
    assert all(looks[str(one.place)] <= 2 for one in found)  # Listed; and what kind of file it is.
    assert not any(str(one.place / "b1000.nii.gz") in looks for one in found)


def test_a_labelled_cohort_is_listed_without_a_look_at_its_folders(cohort: Path, looks: Counter[str]) -> None:
    people = read_cohort(cohort).people
    assert len(people) == N
    assert not any(str(cohort / name) in looks for name in people)


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    for number in range(N):
        folder = tmp_path / "bids" / f"sub-{number:02d}" / "dwi"
        folder.mkdir(parents=True)
        (folder / f"{folder.parent.name}_dwi.nii.gz").write_bytes(b"")
        (folder / f"{folder.parent.name}_dwi.bval").write_text("0 1000")
    return tmp_path / "bids"


@pytest.mark.parametrize("layout", ["cohort", "bids"])
@pytest.mark.parametrize(
    "look",
    [
        lambda folder: without_results(find_examinations(folder), folder.parent / "out"),
        lambda folder: read_cohort(folder).people,
        lambda folder: verify(folder, PrepareConfig(compute={"workers": 1})).failures,
    ],
    ids=["predict", "prepare", "verify"],
)
def test_a_cohort_is_listed_once(
    layout: str, look: Callable[[Path], Any], looks: Counter[str], request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(layout)
    looks.clear()
    assert len(look(folder)) == N
    assert looks[f"{folder}/"] == 1
