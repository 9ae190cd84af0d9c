"""A bundle's folder as others fill it: pipes, links, odd words, impossible settings."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builders import write_onnx
from fvv.config import PROFILES, PreprocessingProfile
from fvv.errors import FvvError, InputError, ModelError
from fvv.io.bundle import ModelBundle, write_manifest
from fvv.schemas.bundle import BundleFile, BundleManifest, ModelEntry
from fvv.schemas.migrations import CURRENT
from fvv.system.fingerprint import file_sha256

PROFILE = PROFILES["robust-v1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A bundle of two models."""
    files = [write_onnx(tmp_path / f"model{fold + 1}.onnx") for fold in range(2)]
    entries = tuple(ModelEntry(file=file.name, sha256=file_sha256(file), fold=n) for n, file in enumerate(files))
    write_manifest(tmp_path, BundleManifest(software="x", run_name="r", profile=PROFILE, models=entries))
    return tmp_path


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["bundle.json", "model1.onnx", "model2.onnx", "golden.npz", "weights.bin"])
@pytest.mark.parametrize("published", [False, True])
def test_a_pipe_is_refused_and_never_opened(folder: Path, name: str, *, published: bool) -> None:
    if published:
        (folder / "bundle.json").unlink()
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=f"{name}: expected a regular file"):
        ModelBundle.open(folder)


def test_a_folder_in_the_place_of_a_file(folder: Path) -> None:
    (folder / "model1.onnx").unlink()
    (folder / "model1.onnx").mkdir()
    with pytest.raises(InputError, match=r"model1\.onnx: expected a regular file"):
        ModelBundle.open(folder)
    (folder / "bundle.json").unlink()
    with pytest.raises(InputError, match=r"model1\.onnx: expected a regular file"):
        ModelBundle.open(folder)


@pytest.mark.parametrize("name", ["bundle.json", "model1.onnx"])
def test_a_broken_link_is_no_bundle_in_the_published_format(folder: Path, name: str) -> None:
    (folder / name).unlink()
    (folder / name).symlink_to(folder / "elsewhere")
    with pytest.raises(InputError, match=f"{name}: a broken link"):
        ModelBundle.open(folder)


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((folder / "bundle.json").read_text())
    change(content)
    (folder / "bundle.json").write_text(json.dumps(content))


def test_words_of_the_maker_stay_on_one_line(folder: Path) -> None:
    edit(folder, lambda content: content.update(run_name="\x1b[31mred", notice="fine\nanna: mismatch likely"))
    described = ModelBundle.open(folder).manifest.description(1)
    assert described == r"\x1b[31mred (1 of 2 models; fine\nanna: mismatch likely)"


def test_odd_words_in_an_error_stay_on_one_line(folder: Path) -> None:
    edit(folder, lambda content: content.update({"a\nb\x1b[2K": 1}))
    with pytest.raises(ModelError) as caught:
        ModelBundle.open(folder)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("context_slices", 0), ("context_slices", -3), ("context_slices", 10**9), ("grid_size", 0),
        ("grid_size", 10**6), ("clip", 0.0), ("clip", -1.0), ("clip", 1e9),
    ],
)  # fmt: skip
def test_a_profile_that_cannot_be_is_refused(folder: Path, field: str, value: float) -> None:
    edit(folder, lambda content: content["profile"].update({field: value}))
    with pytest.raises(ModelError, match=rf"bundle\.json: not a bundle this version reads: profile\.{field}"):
        ModelBundle.open(folder)


def test_clip_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="clip"):
        PreprocessingProfile(name="x", mask_method="otsu", outlier_robust_zscore=False, clip=float("nan"))


def test_a_bundle_is_read_as_written(folder: Path) -> None:
    opened = ModelBundle.open(folder)
    assert opened.profile == PROFILE
    assert opened.model_of_fold(1).file == "model2.onnx"
    with pytest.raises(ModelError, match="0 models for fold 7"):
        opened.model_of_fold(7)


def test_one_changed_byte_is_refused(folder: Path) -> None:
    path = folder / "model1.onnx"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(ModelError, match=r"model1\.onnx: changed since it was converted"):
        ModelBundle.open(folder)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (('"name": "robust-v1"', '"name": "robust-v9"'), "robust-v9"),
        ((f'"schema_version": {CURRENT["bundle"]}', '"schema_version": 7'), "schema_version 7"),
        (("model1.onnx", "../model1.onnx"), "outside the bundle"),
        (("model1.onnx", "model9.onnx"), "missing from the bundle"),
        (('"run_name"', '"run_nam"'), "run_nam"),
        (('"fold": 1', '"fold": 0'), r"folds \[0, 0\]"),
    ],
)
def test_a_bundle_that_does_not_fit_is_refused(folder: Path, change: tuple[str, str], match: str) -> None:
    file = folder / "bundle.json"
    file.write_text(file.read_text().replace(*change))
    with pytest.raises(FvvError, match=match):
        ModelBundle.open(folder)


def test_every_file_the_bundle_names_is_checked(folder: Path) -> None:
    (folder / "golden.npz").write_bytes(b"1")
    golden = BundleFile(file="golden.npz", sha256=file_sha256(folder / "golden.npz"))
    write_manifest(folder, ModelBundle.open(folder).manifest.model_copy(update={"golden": golden}))
    ModelBundle.open(folder)
    (folder / "golden.npz").write_bytes(b"2")
    with pytest.raises(ModelError, match=r"golden\.npz: changed since it was converted"):
        ModelBundle.open(folder)


def test_published_format_needs_no_manifest(tmp_path: Path) -> None:
    for number in range(1, 12):
        write_onnx(tmp_path / f"model{number}.onnx", whole_volume=False)
    opened = ModelBundle.open(tmp_path)
    assert [model.file for model in opened.models] == [f"model{n}.onnx" for n in range(1, 12)]
    assert opened.profile.name == "reference-v1"
    (tmp_path / "model3.onnx").unlink()
    with pytest.raises(ModelError, match="expected model1"):
        ModelBundle.open(tmp_path)


def test_a_folder_without_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="neither bundle"):
        ModelBundle.open(tmp_path)
    with pytest.raises(ModelError, match="no such folder"):
        ModelBundle.open(tmp_path / "none")
