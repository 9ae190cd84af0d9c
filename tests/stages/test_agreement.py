"""Two readers' folders compared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("statsmodels")

from builders import head, save, write_cohort
from fvv.cli import main
from fvv.errors import InputError, OutputExistsError
from fvv.io.tables import read_table
from fvv.stages.agreement import AGREEMENT_FILE, TABLE_FILE, agreement


@pytest.fixture
def readers(tmp_path: Path, rng: np.random.Generator) -> tuple[Path, Path]:
    """Six examinations; the second reader calls nothing of p0 FLAIR-visible."""
    write_cohort(tmp_path / "a", rng)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    nothing = np.zeros_like(head(rng)["stroke_roi"])
    save(tmp_path / "b" / "p0" / "flairviz_roi.nii.gz", nothing)
    return tmp_path / "a", tmp_path / "b"


def test_tables_of_two_readers(tmp_path: Path, readers: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["agreement", *map(str, readers), "-o", str(out)]) == 0
    said = capsys.readouterr().out
    assert "6 examinations of 6 persons" in said
    assert "Dice 1" in said
    record = json.loads((out / AGREEMENT_FILE).read_text())
    assert record["schema_version"] == 1
    assert record["by_masks"]["counts"] == [[3, 0], [1, 2]]
    assert record["by_masks"]["kappa"]["value"] == pytest.approx(2 / 3)
    assert record["by_readers"] is None
    assert record["stroke"]["dice_coefficient"]["value"] == 1.0
    # Empty in both: p1, p3 and p5.
    assert (record["flair_visible"]["n"], record["flair_visible"]["n_empty"]) == (6, 3)
    assert record["flair_visible"]["dice_coefficient"]["value"] == pytest.approx(2 / 3)
    assert record["flair_visible"]["volume"]["bias"]["value"] < 0
    rows = {row["examination_id"]: row for row in read_table(out / TABLE_FILE)}
    assert rows["p0"]["flair_visible_dice"] == "0.0"
    assert rows["p1"]["flair_visible_dice"] == ""


def test_one_examination_has_no_limits(tmp_path: Path, readers: tuple[Path, Path]) -> None:
    for folder in readers:
        for name in ("p1", "p2", "p3", "p4", "p5"):
            shutil.rmtree(folder / name)
    said = agreement(*readers, tmp_path / "out").summary()
    assert "1 examination of 1 person: " in said
    assert "limits not defined;" in said


def test_the_same_command_gives_the_same_bytes(tmp_path: Path, readers: tuple[Path, Path]) -> None:
    agreement(*readers, tmp_path / "one")
    agreement(*readers, tmp_path / "two")
    assert (tmp_path / "one" / AGREEMENT_FILE).read_bytes() == (tmp_path / "two" / AGREEMENT_FILE).read_bytes()


def test_labels_of_two_tables_and_not_of_a_copy(tmp_path: Path, readers: tuple[Path, Path]) -> None:
    rows = [f"p{n}\t{n % 2}\n" for n in range(6)]
    for folder in readers:
        (folder / "participants.tsv").write_text("participant_id\tdwi_flair_mismatch\n" + "".join(rows))
    assert agreement(*readers, tmp_path / "out").record.by_readers is None
    rows[0] = "p0\t1\n"
    (readers[1] / "participants.tsv").write_text("participant_id\tdwi_flair_mismatch\n" + "".join(rows))
    found = agreement(*readers, tmp_path / "out").record.by_readers
    assert found is not None
    assert found.counts == ((3, 0), (1, 2))


def test_what_is_visible_counts_within_the_readers_own_stroke(tmp_path: Path, readers: tuple[Path, Path]) -> None:
    stroke = nib.load(readers[1] / "p1" / "stroke_roi.nii.gz").get_fdata() > 0
    save(readers[1] / "p1" / "flairviz_roi.nii.gz", ~stroke)
    found = agreement(*readers, tmp_path / "out")
    rows = {row["examination_id"]: row for row in read_table(tmp_path / "out" / TABLE_FILE)}
    # `prepare` cuts it off: nothing of this stroke is visible, which is a mismatch to both readers.
    assert float(rows["p1"]["flair_visible_second_ml"]) == 0.0
    assert found.record.by_masks.counts == ((3, 0), (1, 2))


def test_persons_of_either_table(tmp_path: Path, readers: tuple[Path, Path]) -> None:
    rows = "".join(f"p{n}\tperson{n // 2}\n" for n in range(6))
    (readers[1] / "participants.tsv").write_text("participant_id\tpatient_id\n" + rows)
    assert agreement(*readers, tmp_path / "out").record.persons == 3


def test_what_one_reader_left_out_is_said(tmp_path: Path, readers: tuple[Path, Path]) -> None:
    shutil.rmtree(readers[1] / "p5")
    (readers[1] / "p4" / "flairviz_roi.nii.gz").unlink()
    save(readers[1] / "p3" / "stroke_roi.nii.gz", np.zeros((4, 4, 4), dtype=bool))
    found = agreement(*readers, tmp_path / "out")
    assert found.record.only_one == ("p5",)
    assert (found.record.stroke.n, found.record.flair_visible.n) == (4, 3)
    assert "p3" in found.failures[0].reason
    assert "different grids" in found.failures[0].reason


def test_nothing_in_common(tmp_path: Path, readers: tuple[Path, Path]) -> None:
    for folder in sorted(readers[1].iterdir()):
        folder.rename(readers[1] / f"x{folder.name}")
    with pytest.raises(InputError, match="no examination in common"):
        agreement(*readers, tmp_path / "out")
    (tmp_path / "out" / TABLE_FILE).parent.mkdir()
    (tmp_path / "out" / TABLE_FILE).write_text("mine")
    shutil.rmtree(readers[1])
    shutil.copytree(readers[0], readers[1])
    with pytest.raises(OutputExistsError):
        agreement(*readers, tmp_path / "out")
