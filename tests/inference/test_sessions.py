"""A model that is not what it should be gives one clear error a patient, and never a mask."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import odd_models
from builders import prepared_case, write_onnx
from fvv.config import PROFILES
from fvv.errors import FvvError, InputError, ModelError
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble
from fvv.recipes.segment import segment_case

PROFILE = PROFILES["robust-v1"]


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (odd_models.one_slice_short, r"expected an output of \(8, 3 or 4, 256, 256\) in float32, got \(7, 3, 256, 256"),
        (odd_models.of_three_slices, r"could not run the model on an input of \(1, 2, 14, 256, 256\)"),
        (odd_models.of_terabytes, r"could not run .*memory ran out: fewer slices at once"),
        (odd_models.sigmoid, r"output for brain is nowhere negative: these are not logits .*sigmoid or softmax"),
    ],
)
def test_a_run_that_goes_wrong_is_one_error_of_the_patient(
    tmp_path: Path, rng: np.random.Generator, write: Callable[[Path], Path], says: str
) -> None:
    ensemble = OnnxEnsemble([write(tmp_path / "m.onnx")], PROFILE, device="cpu", threads=1)
    with pytest.raises(ModelError, match=says) as caught:
        segment_case(prepared_case(rng), ensemble)
    assert caught.value.examination_id == "p"
    assert str(caught.value.file) == str(tmp_path / "m.onnx")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (odd_models.of_half_precision, r"both in float32, got .*tensor\(float16\)"),
        (odd_models.of_grid_320, "got .*320, 320"),
        (lambda path: odd_models.of_batch(path, 4), r"batch free or 1.* got \[4, 2, 7"),
    ],
)
def test_a_model_of_another_input_is_refused_when_opened(
    tmp_path: Path, write: Callable[[Path], Path], says: str
) -> None:
    with pytest.raises(ModelError, match=says):
        OnnxEnsemble([write(tmp_path / "m.onnx")], PROFILE, device="cpu")


def test_a_model_that_takes_one_slab_is_given_one_at_a_time(tmp_path: Path, rng: np.random.Generator) -> None:
    padded = network_input(prepared_case(rng, slices=5), 3)
    files = odd_models.of_batch(tmp_path / "one.onnx", 1), write_onnx(tmp_path / "free.onnx", whole_volume=False)
    one, free = (OnnxEnsemble([file], PROFILE, device="cpu").logits(padded) for file in files)
    np.testing.assert_allclose(one, free, atol=1e-6)


def test_a_channel_that_is_nowhere_negative_is_no_logit(tmp_path: Path, rng: np.random.Generator) -> None:
    """Also one alone, and zeros: a FLAIR-visible volume of 0 mL would be an answer."""
    file = write_onnx(tmp_path / "m.onnx", weights=((1, 0), (1, 0), (0, 0)), biases=(1.5, -2.0, 0.0))
    with pytest.raises(ModelError, match="for flair_visible is nowhere negative"):
        segment_case(prepared_case(rng), OnnxEnsemble([file], PROFILE, device="cpu"))


@pytest.mark.parametrize("kind", ["folder", "link"])
def test_a_file_that_is_no_file_is_never_opened(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model1.onnx"
    path.mkdir() if kind == "folder" else path.symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match=r"regular file|broken link"):
        OnnxEnsemble([path], PROFILE)


def test_what_a_graph_calls_itself_cannot_forge_a_line(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "m.onnx")
    odd_models.appended(
        path, odd_models.helper.make_node("Summon", ["logits"], ["modelOutput"], name="\x1b[2Kok\npass")
    )
    with pytest.raises(FvvError) as caught:
        OnnxEnsemble([path], PROFILE)
    assert str(caught.value).isprintable()
