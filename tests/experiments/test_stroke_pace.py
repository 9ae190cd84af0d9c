"""The table of stroke ages is made of the records of a cohort."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from simulations import write_simulation


def test_shares_and_sizes_are_those_of_the_records(
    tmp_path: Path, experiment: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    main = experiment("stroke_pace").main
    for number, (onset_h, mismatch) in enumerate([(2.0, True), (3.0, False), (8.0, False), (9.0, False), (None, None)]):
        write_simulation(
            tmp_path / f"sim_{number}", onset_h=onset_h, dwi_flair_mismatch=mismatch, lesion_volume_ml=10.0 * number
        )
    main([str(tmp_path)])
    told = capsys.readouterr().out
    assert told.startswith(
        "4 strokes of 5 examinations\nmismatch under 4.5 h 0.50 ± 0.35 of 2; none at 4.5 to 12 h 1.00"
    )
    assert "with mismatch 0.0 ± 0.0 mL, without 20.0" in told
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit):
        main([str(tmp_path / "empty")])
