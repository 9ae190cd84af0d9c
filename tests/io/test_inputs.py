"""Looking for examinations costs a network disk little, however many there are."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fvv.cohort.examinations import read_cohort
from fvv.io.inputs import find_examinations, without_results

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
    """How often each folder is listed, and each path is looked at."""
    counted: Counter[str] = Counter()

    def counting(name: str) -> None:
        original = getattr(os, name)

        def call(path: Any = ".", *args: Any, **kwargs: Any) -> Any:
            counted[str(path)] += 1
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
