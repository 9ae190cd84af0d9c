"""One truth, two languages: the page's engine answers as Python does (`make web` builds it; without it, skipped)."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest

from fvv.io.shipped import shipped_or_refuse
from web.parity import ENGINE, NODE, Comparison, compared, first_model, write_cases

pytest.importorskip("nilearn", reason="the cases are simulated")
pytestmark = pytest.mark.skipif(NODE is None or not ENGINE.exists(), reason="no engine: make web")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("parity")
    write_cases(folder / "cases", folder, everything=False)
    (folder / "whole").mkdir()
    (folder / "cases" / "as_simulated").rename(folder / "whole" / "as_simulated")
    return folder


@pytest.fixture(scope="module")
def rows(folder: Path) -> dict[str, Comparison]:
    """One case with all models; the others with the first, for what differs among them comes before the models."""
    found = compared(folder / "whole", shipped_or_refuse())
    return {row.name: row for row in found + compared(folder / "cases", first_model(folder / "first"))}


def test_every_case_has_one_answer(rows: dict[str, Comparison]) -> None:
    assert len(rows) >= 13
    assert [str(row) for row in rows.values() if not row.agrees] == []


def test_the_cases_tell_answers_refusals_and_failures_apart(rows: dict[str, Comparison]) -> None:
    assert {row.python for row in rows.values()} >= {"not assessable", "refused"}
    assert any(row.python.startswith("mismatch") for row in rows.values())


def test_a_visible_part_that_does_not_count_is_said_alike(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "cases", ignore=shutil.ignore_patterns("web*"))
    (row,) = compared(tmp_path / "cases", first_model(tmp_path / "demanding", minimum_visible_share=0.999))
    assert row.agrees
    assert "visible-part-removed/warning" in row.codes  # Over 0.5 mL.
    assert (row.messages_differ, row.fvv_difference, row.files_differ) == (0, 0, 0)


def test_without_a_common_scale_a_stroke_is_judged_alike_by_an_assumed_adc(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder / "whole", tmp_path / "cases", ignore=shutil.ignore_patterns("web*"))
    path = tmp_path / "cases" / "as_simulated" / "b1000.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(0.4 * np.asarray(image.dataobj), image.affine), path)
    (row,) = compared(tmp_path / "cases", first_model(tmp_path / "first"))
    assert row.agrees
    assert "evidence-without-adc/warning" in row.codes
    assert "weak-evidence-removed/note" not in row.codes
    assert (row.messages_differ, row.fvv_difference, row.files_differ) == (0, 0, 0)


SPOT = np.s_[71:76, 59:64, 12]
"""25 voxels of normal tissue in the case with all models, far from its stroke."""


@pytest.mark.parametrize("satellites", [False, True])
def test_satellites_of_a_certain_stroke_are_kept_alike(folder: Path, tmp_path: Path, satellites: bool) -> None:
    """A bright spot has a core of less than 300 mm3, the stroke a larger one, of which the model is certain."""
    shutil.copytree(folder / "whole", tmp_path / "cases", ignore=shutil.ignore_patterns("web*"))
    path = tmp_path / "cases" / "as_simulated" / "b1000.nii.gz"
    image = nibabel.load(path)
    b1000 = np.asarray(image.dataobj)
    b1000[SPOT] = 1.6 * b1000[SPOT]
    nibabel.save(nibabel.Nifti1Image(b1000, image.affine, image.header), path)
    core = 100.0 if satellites else None
    bundle = first_model(tmp_path / "bundle", minimum_core_mm3=300.0, satellite_core_mm3=core)
    (row,) = compared(tmp_path / "cases", bundle)
    assert row.agrees
    assert (row.messages_differ, row.fvv_difference, row.files_differ) == (0, 0, 0)
    assert ("satellites-kept/note" in row.codes) == satellites
    assert ("weak-evidence-removed/note" in row.codes) == (not satellites)


def test_predictions_are_equal_on_the_native_grid(rows: dict[str, Comparison]) -> None:
    assert {row.files_differ for row in rows.values()} <= {None, 0}


def test_sources_and_build_are_of_one_age() -> None:
    newest = max(path.stat().st_mtime for path in (Path(ENGINE).parents[2] / "src" / "engine").rglob("*.ts"))
    assert ENGINE.stat().st_mtime >= newest - 1, "the engine was changed: make web"
