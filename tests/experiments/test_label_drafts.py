"""The summary of the draft labels: what is averaged, what is counted, and groups that are empty."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def drafts(experiment: Callable[[str], ModuleType]) -> ModuleType:
    return experiment("label_drafts")


def test_much_is_averaged_and_nothing_is_counted(drafts: ModuleType) -> None:
    # Stroke, visible and proposed mL, Dice, displacement in mm; 0.5 mL visible is neither much nor nothing.
    rows = [[9, 4, 4, 0.9, 1], [9, 2, 1, 0.5, 1], [9, 0.5, 0, 0, 1], [9, 0, 0.4, 0, 1], [9, 0, 0.6, 0, 1]]
    much, nothing = drafts.summary(np.array(rows)).splitlines()
    assert much.startswith("over 1 mL visible: Dice 0.70 on average [")
    assert much.endswith("], 0.8 or more in 1 of 2")
    assert nothing == "nothing visible: under 0.5 mL proposed in 1 of 2, 0.60 mL at most"


def test_a_group_without_a_stroke_is_said_to_be_empty(drafts: ModuleType) -> None:
    assert drafts.summary(np.array([[9.0, 0.5, 0, 0, 1]])).splitlines() == [
        "over 1 mL visible: no stroke",
        "nothing visible: no stroke",
    ]


def test_a_folder_without_examinations_is_refused(
    drafts: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["label_drafts.py", str(tmp_path)])
    with pytest.raises(SystemExit):
        drafts.main()
    assert f"{tmp_path}: no examinations of `fvv simulate` (sim_*)" in capsys.readouterr().err
