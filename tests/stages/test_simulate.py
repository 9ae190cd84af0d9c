"""The simulate stage: files, tables, going on, determinism."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("nilearn")

from builders import write_patient
from fvv.cohort.participants import read_participants
from fvv.config import SimulateConfig
from fvv.errors import FvvError, InputError, OutputExistsError
from fvv.io.nifti import read_volume, write_volume
from fvv.io.sealed import read_sealed, write_sealed
from fvv.stages.simulate import simulate

CONFIG = SimulateConfig(cases=2, seed=21, compute={"workers": 1})


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulate") / "input_data"
    return folder, simulate(folder, CONFIG.model_copy(update={"workers": 2}))


def test_a_tiny_stroke_is_not_summed_up_as_zero(cohort):
    _, result = cohort
    one = result.cases[0]
    cases = [
        one.model_copy(update={"case": one.case.model_copy(update={"lesion_volume_ml": ml})}) for ml in (0.02, 166)
    ]
    assert "0.020 mL to 166.0 mL" in dataclasses.replace(result, cases=tuple(cases)).summary()


def test_layout_and_participants(cohort):
    folder, result = cohort
    assert result.made == 2
    assert not result.failures
    assert "2 cases made" in result.summary()
    people = read_participants(folder)
    assert list(people) == ["sim_0001", "sim_0002"]
    assert people["sim_0001"].site.startswith("site_")
    assert people["sim_0001"].person_id == f"seed{CONFIG.seed}_person_0001"  # Another seed's persons are others.
    header = (folder / "participants.tsv").read_text().splitlines()[0].split("\t")
    assert header[:3] == ["participant_id", "patient_id", "site"]
    assert {"onset_h", "lesion_volume_ml", "flair_visible_ml", "field_strength_t", "dwi_flair_mismatch"} < set(header)
    for name, one in zip(people, result.cases, strict=True):
        volumes = {
            stem: read_volume(folder / name / f"{stem}.nii.gz")
            for stem in ("b0", "b1000", "flair", "stroke_roi", "flairviz_roi", "mask")
        }
        reference = volumes["b0"]
        for volume in volumes.values():
            assert volume.array.shape == reference.array.shape
            np.testing.assert_allclose(volume.affine, reference.affine)
        measured = volumes["stroke_roi"].array.sum() * reference.voxel_volume_ml
        assert measured == pytest.approx(one.case.lesion_volume_ml, rel=1e-3, abs=1e-6)


def test_one_case_alone_has_the_same_bytes(cohort, tmp_path):
    folder, _ = cohort
    simulate(tmp_path / "alone", CONFIG.model_copy(update={"only": 2, "cases": 9}))
    assert digests(tmp_path / "alone" / "sim_0002") == digests(folder / "sim_0002")
    assert not (tmp_path / "alone" / "sim_0001").exists()


def test_a_second_run_keeps_what_is_there_and_makes_what_is_missing(cohort):
    folder, _ = cohort
    before = digests(folder)
    stamp = (folder / "sim_0001" / "b0.nii.gz").stat().st_mtime_ns
    for path in (folder / "sim_0002").iterdir():
        path.unlink()
    (folder / "sim_0002").rmdir()
    result = simulate(folder, CONFIG)
    assert (result.made, result.kept) == (1, 1)
    assert (folder / "sim_0001" / "b0.nii.gz").stat().st_mtime_ns == stamp
    assert digests(folder) == before


def test_the_output_folder_is_listed_once(cohort, tmp_path, monkeypatch):
    folder = Path(shutil.copytree(cohort[0], tmp_path / "cohort"))
    listed = []
    for name in ("listdir", "scandir"):
        real = getattr(os, name)
        monkeypatch.setattr(os, name, lambda path=".", real=real: listed.append(Path(path)) or real(path))
    result = simulate(folder, CONFIG)
    assert [one.case.participant_id for one in result.cases] == ["sim_0001", "sim_0002"]
    assert listed.count(folder) == 1


def test_a_case_depends_on_the_masks_and_not_on_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr("fvv.simulator.patient.FINE_VOXEL_MM", 3.0)
    monkeypatch.setattr("fvv.simulator.patient.SUBSLICES", 1)
    mask = np.zeros((60, 60, 40), np.uint8)
    mask[34:46, 24:44, 20:28] = 1
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = (-60.0, -80.0, -30.0)
    for place in ("here", "there"):
        (tmp_path / place).mkdir()
        write_volume(tmp_path / place / "one.nii.gz", mask, affine)
    config = CONFIG.model_copy(
        update={"only": 1, "lesions": tmp_path / "here", "lesion_mask_share": 1.0, "stroke_free_share": 0.0}
    )
    result = simulate(tmp_path / "out", config)
    assert (result.made, result.cases[0].case.lesion_mask, result.cases[0].case.pattern) == (1, "one.nii.gz", "mask")
    before = digests(tmp_path / "out")
    moved = config.model_copy(update={"lesions": tmp_path / "there"})
    assert simulate(tmp_path / "out", moved).kept == 1
    simulate(tmp_path / "again", moved)
    assert digests(tmp_path / "again")["sim_0001/b1000.nii.gz"] == before["sim_0001/b1000.nii.gz"]
    mask[34] = 0
    write_volume(tmp_path / "there" / "one.nii.gz", mask, affine)
    with pytest.raises(OutputExistsError, match="other inputs"):
        simulate(tmp_path / "out", moved)
    assert digests(tmp_path / "out") == before


def test_real_heads_keep_their_persons_and_their_images(cohort, tmp_path, monkeypatch):
    monkeypatch.setattr("fvv.simulator.registration.FINE", (1500, 3))
    heads, names = tmp_path / "heads", ("sim_0001", "sim_0002")
    for name in names:
        (heads / name).mkdir(parents=True)
        for file in ("b0.nii.gz", "b1000.nii.gz", "mask.nii.gz"):
            shutil.copy(cohort[0] / name / file, heads / name / file)
    (heads / "participants.tsv").write_text("participant_id\tpatient_id\nsim_0001\tAnna\nsim_0002\tBert\n")
    config = CONFIG.model_copy(update={"cases": 4, "heads": heads, "stroke_free_share": 0.5, "onset_range_h": (5, 50)})
    result = simulate(tmp_path / "out", config)
    assert (result.made, result.failures) == (4, ())
    people = read_participants(tmp_path / "out")
    assert [one.person_id for one in people.values()] == ["Anna", "Bert", "Anna", "Bert"]
    strokes = [one.case.lesion_volume_ml > 0 for one in result.cases]
    assert 0 < sum(strokes) < 4
    for one, has_stroke in zip(result.cases, strokes, strict=True):
        folder = tmp_path / "out" / one.case.participant_id
        assert one.case.head in names
        assert one.sources.keys() == {"heads"}
        assert not (folder / "flair.nii.gz").exists()
        before, after = (read_volume(place / "b1000.nii.gz") for place in (heads / one.case.head, folder))
        np.testing.assert_allclose(after.affine, before.affine, atol=1e-5)
        outside = read_volume(folder / "stroke_roi.nii.gz").array == 0
        same = (after.array == before.array)[outside].mean()
        assert same == 1.0 if not has_stroke else same > 0.9
    assert simulate(tmp_path / "out", config).kept == 4
    with pytest.raises(InputError, match="holds no patient folder"):
        simulate(tmp_path / "none", config.model_copy(update={"heads": heads / "sim_0001"}))


@pytest.mark.parametrize("name", ["b0.nii.gz", "simulation.json"])
def test_a_damaged_case_is_made_again(cohort, name):
    folder, _ = cohort
    before = digests(folder)
    for damage in (lambda file: file.write_bytes(file.read_bytes()[:-9]), lambda file: file.unlink()):
        damage(folder / "sim_0002" / name)
        result = simulate(folder, CONFIG)
        assert (result.made, result.kept, result.failures) == (1, 1, ())
        assert digests(folder) == before


def test_a_cohort_of_others_is_refused_untouched(tmp_path):
    write_patient(tmp_path / "real" / "anna", np.random.default_rng(0))
    (tmp_path / "real" / "participants.tsv").write_text("participant_id\nanna\n")
    before = digests(tmp_path)
    for overwrite in (False, True):
        with pytest.raises(OutputExistsError, match="not written by fvv"):
            simulate(tmp_path / "real", CONFIG, overwrite=overwrite)
    assert digests(tmp_path) == before


def test_a_real_patient_among_simulated_ones_is_refused_untouched(cohort, tmp_path):
    folder = Path(shutil.copytree(cohort[0], tmp_path / "mixed"))
    write_patient(folder / "anna", np.random.default_rng(0))
    before = digests(folder)
    with pytest.raises(OutputExistsError, match="anna: already there, and not written by fvv"):
        simulate(folder, CONFIG.model_copy(update={"seed": 22}), overwrite=True)
    assert digests(folder) == before


def test_a_file_that_somebody_put_into_a_case_is_not_replaced(cohort, tmp_path):
    folder = Path(shutil.copytree(cohort[0], tmp_path / "mixed"))
    (folder / "sim_0001" / "my_roi.nii.gz").write_text("mine")
    (folder / "sim_0001" / "b0.nii.gz").unlink()
    (failure,) = simulate(folder, CONFIG).failures
    assert "my_roi.nii.gz: not written by fvv" in failure.reason
    assert (folder / "sim_0001" / "my_roi.nii.gz").read_text() == "mine"


def test_another_seed_does_not_overwrite(cohort):
    folder, _ = cohort
    with pytest.raises(OutputExistsError, match="sim_0001"):
        simulate(folder, CONFIG.model_copy(update={"seed": 22}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"schema_version": 99}, "made by another version"),
        ({"simulator_version": 1}, "made by version 1 of the simulator, this is version [2-9]"),
    ],
)
def test_a_case_of_another_version_is_not_overwritten(cohort, tmp_path, change, said):
    folder = Path(shutil.copytree(cohort[0], tmp_path / "other"))
    file = folder / "sim_0001" / "simulation.json"
    write_sealed(file, {**read_sealed(file), **change})
    before = digests(folder)
    with pytest.raises(OutputExistsError, match=f"already there, {said}"):
        simulate(folder, CONFIG)
    assert digests(folder) == before


def test_a_stroke_that_cannot_be_seen_is_a_failure_and_not_a_crash(tmp_path, monkeypatch):
    monkeypatch.setattr("fvv.simulator.patient.MAX_ATTEMPTS", 2)
    config = CONFIG.model_copy(update={"only": 1, "minimum_contrast_to_noise": 1e6, "stroke_free_share": 0.0})
    result = simulate(tmp_path / "none", config)
    assert [failure.examination_id for failure in result.failures] == ["sim_0001"]
    assert "no visible stroke" in result.failures[0].reason


def test_without_nilearn_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FvvError, match=r"\.\[simulate\]"):
        simulate(tmp_path / "x", CONFIG)
