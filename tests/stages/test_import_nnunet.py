"""From nnU-Net's raw data set to a cohort: the same images and masks as before the export."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import write_cohort, write_patient
from fvv.config import PrepareConfig, PreprocessConfig
from fvv.data import Channel
from fvv.errors import InputError, OutputExistsError
from fvv.io.nifti import write_volume
from fvv.stages.agreement import agreement
from fvv.stages.export import export_nnunet
from fvv.stages.import_nnunet import import_nnunet
from fvv.stages.prepare import prepare
from fvv.stages.verify import verify

CONFIG = PrepareConfig(kfolds=2, preprocess=PreprocessConfig(partial_labels=True), compute={"workers": 1})


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort of four, the last without a stroke, in `in`, and what is exported of it."""
    folder, rng = tmp_path_factory.mktemp("exported"), np.random.default_rng(0)
    write_cohort(folder / "in", rng, 3)
    write_patient(folder / "in" / "p3", rng, lesion=False, visible=False)
    prepare(folder / "in", folder / "store", CONFIG)
    export_nnunet(folder / "in", folder / "store", folder / "Dataset007_FVV", CONFIG)
    return folder


@pytest.fixture
def dataset(exported: Path, tmp_path: Path) -> Path:
    """The exported data set, to change; `in` beside it is the cohort."""
    for name in ("in", "Dataset007_FVV"):
        shutil.copytree(exported / name, tmp_path / name)
    return tmp_path / "Dataset007_FVV"


def changed(dataset: Path, **parts: object) -> Path:
    """The data set with another description."""
    file = dataset / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))
    return dataset


def test_export_and_import_give_the_cohort_again(dataset: Path, tmp_path: Path) -> None:
    result = import_nnunet(dataset, tmp_path / "back")
    assert (result.imported, result.failures) == (("p0", "p1", "p2", "p3"), ())
    assert result.channels == (Channel.STROKE, Channel.FLAIR_VISIBLE)
    for name in result.imported:
        for stem in ("b1000", "b0", "stroke_roi", "flairviz_roi"):
            before, after = (nib.load(tmp_path / place / name / f"{stem}.nii.gz") for place in ("in", "back"))
            np.testing.assert_array_equal(after.get_fdata(), before.get_fdata())
            np.testing.assert_allclose(after.affine, before.affine)
    again = prepare(tmp_path / "back", tmp_path / "store2", CONFIG)
    assert not again.failures
    with pytest.raises(OutputExistsError, match="--overwrite"):
        import_nnunet(dataset, tmp_path / "back")
    assert import_nnunet(dataset, tmp_path / "back", overwrite=True).imported == result.imported


def test_predictions_become_a_second_readers_folder(dataset: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "validation"
    predictions.mkdir()
    for name in ("p0", "p1", "p2"):
        image = nib.load(dataset / "labelsTr" / f"{name}.nii.gz")
        labels = np.roll(np.asarray(image.dataobj), 1, axis=0)
        nib.save(nib.Nifti1Image(labels, image.affine), predictions / f"{name}.nii.gz")
    result = import_nnunet(dataset, tmp_path / "predicted", labels=predictions)
    assert result.imported == ("p0", "p1", "p2")
    compared = agreement(tmp_path / "in", tmp_path / "predicted", tmp_path / "agreement").record
    assert compared.only_one == ("p3",)
    assert 0.5 < compared.stroke.dice_coefficient.value < 1


def test_a_foreign_data_set_with_one_label_and_an_adc(dataset: Path, tmp_path: Path) -> None:
    changed(dataset, channel_names={"0": "DWI", "1": "ADC"}, labels={"background": 0, "lesion": [1, 2]})
    result = import_nnunet(dataset, tmp_path / "back")
    assert result.channels == (Channel.STROKE,)
    assert sorted(path.name for path in (tmp_path / "back" / "p0").iterdir()) == [
        "adc.nii.gz", "b1000.nii.gz", "stroke_roi.nii.gz",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"channel_names": {"0": "T1", "1": "T2"}}, "one channel named b1000 or dwi.*found T1, T2"),
        ({"channel_names": {"0": "b1000", "1": "dwi", "2": "b0"}}, "one channel named b1000 or dwi"),
        ({"labels": {"background": 0, "core": 1, "penumbra": 2}}, "a label named stroke.*found core, penumbra"),
        ({"labels": {"background": 0, "stroke": "one"}}, "labels must be numbers"),
        ({"labels": {"background": 0, "stroke": 1, "flair_visible": 2}}, "flair_visible is part of the stroke"),
        ({"file_ending": ".nrrd"}, r"images are \.nrrd"),
        ({"channel_names": ["b1000", "b0"]}, "cannot be read as dataset.json"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    dataset: Path, tmp_path: Path, parts: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        import_nnunet(changed(dataset, **parts), tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_examination_that_cannot_be_imported_leaves_no_folder(dataset: Path, tmp_path: Path) -> None:
    (dataset / "imagesTr" / "p1_0001.nii.gz").unlink()
    image = nib.load(dataset / "labelsTr" / "p2.nii.gz")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj)[:-1], image.affine), dataset / "labelsTr" / "p2.nii.gz")
    result = import_nnunet(dataset, tmp_path / "back")
    assert result.imported == ("p0", "p3")
    reasons = {failure.examination_id: failure.reason for failure in result.failures}
    assert "no image of the channel b0" in reasons["p1"]
    assert "another grid" in reasons["p2"]
    assert sorted(path.name for path in (tmp_path / "back").glob("p*")) == ["p0", "p3", "participants.tsv"]


def test_a_folder_that_is_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a raw data set of nnU-Net"):
        import_nnunet(tmp_path, tmp_path / "back")


def test_voxels_that_nobody_judged_and_images_without_a_label_map_are_failures(dataset: Path, tmp_path: Path) -> None:
    changed(dataset, labels={"background": 0, "lesion": 1, "ignore": 2})  # 2 was the FLAIR-visible part.
    (dataset / "labelsTr" / "p1.nii.gz").unlink()
    result = import_nnunet(dataset, tmp_path / "back")
    reasons = {failure.examination_id: failure.reason for failure in result.failures}
    assert "no label map" in reasons["p1"]
    assert "belong to no class of dataset.json: values 2" in reasons["p0"]
    assert result.imported == ("p3",)


def test_nothing_of_an_earlier_import_stays_among_another_readers_masks(dataset: Path, tmp_path: Path) -> None:
    import_nnunet(dataset, tmp_path / "second")
    predictions = tmp_path / "validation"
    predictions.mkdir()
    shutil.copy(dataset / "labelsTr" / "p0.nii.gz", predictions)
    assert import_nnunet(dataset, tmp_path / "second", labels=predictions, overwrite=True).imported == ("p0",)
    assert [path.name for path in (tmp_path / "second").iterdir() if path.is_dir()] == ["p0"]


def test_an_import_that_was_killed_is_no_cohort_and_starts_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """No code of the program runs after it."""

    written = []

    def one_and_a_half(path: Path, *args: object) -> None:
        if written:
            raise Killed
        write_volume(path, *args)
        written.extend([path] if path.name.startswith("flairviz") else [])

    back = tmp_path / "back"
    with monkeypatch.context() as patch:
        patch.setattr("fvv.stages.import_nnunet.write_volume", one_and_a_half)
        with pytest.raises(Killed):
            import_nnunet(dataset, back)
    (back / ".partial-12345678-p1").mkdir()  # Left where even cleaning up was cut short.
    assert [path.name for path in back.glob("p*")] == ["p0"]
    for stage in (lambda: verify(back, CONFIG), lambda: prepare(back, tmp_path / "store2", CONFIG)):
        with pytest.raises(InputError, match=r"not finished: participants\.tsv"):
            stage()
    assert import_nnunet(dataset, back).imported == ("p0", "p1", "p2", "p3")
    assert sorted(path.name for path in back.iterdir() if path.is_dir()) == ["p0", "p1", "p2", "p3"]
