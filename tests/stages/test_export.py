"""A cohort for nnU-Net: labels as regions, the images of the files, our folds."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from builders import write_cohort, write_patient
from fvv.config import PrepareConfig, PreprocessConfig
from fvv.data import Channel, Role
from fvv.errors import InputError, OutputExistsError
from fvv.io.store import CaseStore
from fvv.stages.export import export_nnunet
from fvv.stages.prepare import prepare

CONFIG = PrepareConfig(kfolds=2, preprocess=PreprocessConfig(partial_labels=True), compute={"workers": 1})


def test_a_data_set_for_nnunet(tmp_path: Path, rng: np.random.Generator) -> None:
    cohort, store, output = tmp_path / "in", tmp_path / "store", tmp_path / "nnUNet_raw" / "Dataset007_FVV"
    write_cohort(cohort, rng, 4)
    write_patient(cohort / "p4", rng, lesion=False, visible=False)
    (cohort / "p3" / "flairviz_roi.nii.gz").unlink()
    prepare(cohort, store, CONFIG)
    result = export_nnunet(cohort, store, output, CONFIG)
    assert (result.exported, result.left_out, result.failures) == (("p0", "p1", "p2", "p4"), ("p3",), ())
    assert "left out, a mask is unknown: p3" in result.summary()

    described = json.loads((output / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "stroke": [1, 2], "flair_visible": 2}
    assert described["regions_class_order"] == [1, 2]
    assert described["numTraining"] == 4
    assert sorted(path.name for path in (output / "imagesTr").iterdir())[:2] == ["p0_0000.nii.gz", "p0_0001.nii.gz"]
    for name in result.exported:
        images = {
            stem: nib.load(cohort / name / f"{stem}.nii.gz") for stem in ("b1000", "b0", "stroke_roi", "flairviz_roi")
        }
        labels = nib.load(output / "labelsTr" / f"{name}.nii.gz")
        for number, stem in enumerate(("b1000", "b0")):
            written = nib.load(output / "imagesTr" / f"{name}_{number:04}.nii.gz")
            np.testing.assert_array_equal(written.get_fdata(), images[stem].get_fdata())
            np.testing.assert_allclose(written.affine, images["b1000"].affine)
        np.testing.assert_array_equal(labels.get_fdata() > 0, images["stroke_roi"].get_fdata() > 0)
        np.testing.assert_array_equal(labels.get_fdata() == 2, images["flairviz_roi"].get_fdata() > 0)

    plan = CaseStore.open(store).folds
    splits = json.loads((output / "splits_final.json").read_text())
    for fold, split in enumerate(splits):
        assert set(split["val"]) == set(plan.participants(fold, Role.TEST)) - {"p3"}
        assert not set(split["val"]) & set(split["train"])
        assert set(split["val"]) | set(split["train"]) == set(result.exported)

    with pytest.raises(OutputExistsError):
        export_nnunet(cohort, store, output, CONFIG)
    with pytest.raises(InputError, match="DatasetNNN_Name"):
        export_nnunet(cohort, store, tmp_path / "nnunet", CONFIG)
    for number in (0, 1, 2):
        (cohort / f"p{number}" / "flairviz_roi.nii.gz").unlink()
    prepare(cohort, store, CONFIG)
    again = export_nnunet(cohort, store, output, CONFIG, overwrite=True)
    assert again.exported == ("p0", "p1", "p2", "p3", "p4")
    assert again.channels == (Channel.STROKE,)
    assert json.loads((output / "dataset.json").read_text())["labels"] == {"background": 0, "stroke": 1}
