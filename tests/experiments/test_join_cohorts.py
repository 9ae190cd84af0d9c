"""Cohorts joined by links keep their persons apart and lose nobody."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np

from builders import save
from fvv.cohort.participants import read_participants


def cohort(folder: Path, seed: int, *names: str) -> Path:
    for name in names:
        save(folder / name / "b0.nii.gz", np.ones((1, 1, 1)))
    lines = "".join(f"{name}\tseed{seed}_{name}\t1\n" for name in names)
    (folder / "participants.tsv").write_text(f"participant_id\tpatient_id\tdwi_flair_mismatch\n{lines}")
    return folder


def test_joined_cohorts_are_one_that_prepare_reads(experiment: Callable[[str], ModuleType], tmp_path: Path) -> None:
    one, two = cohort(tmp_path / "one", 1, "sim_1", "sim_2"), cohort(tmp_path / "two", 2, "sim_1")
    join = experiment("join_cohorts").join
    for _ in range(2):
        assert join({"a": one, "b": two}, tmp_path / "all") == 3
    people = read_participants(tmp_path / "all")
    assert {name: person.person_id for name, person in people.items()} == {
        "a_sim_1": "seed1_sim_1",
        "a_sim_2": "seed1_sim_2",
        "b_sim_1": "seed2_sim_1",
    }
    assert (tmp_path / "all" / "b_sim_1" / "b0.nii.gz").is_file()
    shutil.rmtree(two)
    assert join({"a": one}, tmp_path / "all") == 2
    assert list(read_participants(tmp_path / "all")) == ["a_sim_1", "a_sim_2"]
