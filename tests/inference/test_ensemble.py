from __future__ import annotations

import dataclasses
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from builders import prepared_case, write_onnx
from fvv.config import PROFILES, PredictConfig
from fvv.data import Channel
from fvv.errors import ModelError
from fvv.imaging.slabs import network_input
from fvv.inference.ensemble import OnnxEnsemble, open_ensemble
from fvv.inference.interrupt import Job
from fvv.inference.providers import Provider, confirm_provider
from fvv.inference.sessions import OnnxModel
from fvv.io.bundle import ModelBundle, write_manifest
from fvv.recipes.segment import segment_case
from fvv.schemas.bundle import BundleManifest, ModelEntry
from fvv.system.fingerprint import file_sha256

PROFILE = PROFILES["robust-v1"]


def test_whole_volume_slabs_and_chunks_agree(tmp_path: Path, rng: np.random.Generator) -> None:
    padded = network_input(prepared_case(rng, slices=9), 3)
    whole = write_onnx(tmp_path / "whole.onnx", context_weight=0.3)
    slabs = write_onnx(tmp_path / "slabs.onnx", context_weight=0.3, whole_volume=False)
    results = [
        OnnxEnsemble([file], PROFILE, device="cpu", chunk_slices=chunk).logits(padded)
        for file, chunk in ((whole, 32), (whole, 4), (whole, 1), (slabs, 32))
    ]
    assert results[0].shape == (1, 3, 9, 256, 256)
    for other in results[1:]:
        np.testing.assert_allclose(other, results[0], atol=1e-4)


def test_answers_are_the_same_bytes_with_any_number_of_threads_and_slices_at_once(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    padded = network_input(prepared_case(rng, slices=9), 3)
    files = [write_onnx(tmp_path / f"{n}.onnx", context_weight=0.3, biases=(1.5, -2.0, -n)) for n in range(3)]

    def answer(threads: int, chunk: int) -> list[bytes]:
        ensemble = OnnxEnsemble(files, PROFILE, device="cpu", threads=threads, chunk_slices=chunk)
        found = list(ensemble.each_output(padded, stroke_logits=True))
        arrays = [ensemble.logits(padded), ensemble.probabilities(padded), *(one for pair in found for one in pair)]
        return [np.asarray(array).tobytes() for array in arrays]

    expected = answer(1, 32)
    for threads, chunk in ((1, 4), (2, 32), (2, 4), (2, 1), (3, 5)):
        assert answer(threads, chunk) == expected


def test_threads_may_share_an_ensemble(tmp_path: Path, rng: np.random.Generator) -> None:
    inputs = [network_input(prepared_case(rng, slices=slices), 3) for slices in (1, 2, 5, 3)]
    files = [write_onnx(tmp_path / f"{n}.onnx", context_weight=0.3, biases=(1.5, -2.0, -n)) for n in range(2)]
    files.append(write_onnx(tmp_path / "slabs.onnx", context_weight=0.3, whole_volume=False))
    ensemble = OnnxEnsemble(files, PROFILE, device="cpu", threads=2, chunk_slices=4)
    expected = [ensemble.logits(padded) for padded in inputs]
    with ThreadPoolExecutor(4) as threads:
        for found, alone in zip(threads.map(ensemble.logits, inputs), expected, strict=True):
            np.testing.assert_array_equal(found, alone)


@pytest.mark.parametrize("call", ["each_output", "_each_logits"])
def test_an_interrupt_while_the_models_are_stopped_is_not_lost(
    tmp_path: Path, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Python drops what a generator raises that nobody closes."""

    def groups(jobs: Iterable[Sequence[Job]], _workers: int, _stop: object) -> Generator[None]:
        for group in jobs:
            for job in group:
                job()
            try:
                yield
            except GeneratorExit:
                raise KeyboardInterrupt from None

    monkeypatch.setattr("fvv.inference.ensemble.in_groups", groups)
    ensemble = OnnxEnsemble([write_onnx(tmp_path / "m.onnx")], PROFILE, device="cpu")
    outputs = getattr(ensemble, call)(network_input(prepared_case(rng, slices=2), 3))
    next(outputs)
    with pytest.raises(KeyboardInterrupt):
        outputs.close()


@pytest.mark.parametrize("slabs", [None, 1, 4])
@pytest.mark.parametrize("runs", [1, 2, 3])
def test_each_slice_is_in_one_part(tmp_path: Path, slabs: int | None, runs: int) -> None:
    ensemble = OnnxEnsemble([write_onnx(tmp_path / "m.onnx")], PROFILE, device="cpu")
    ensemble._runs = runs
    model = dataclasses.replace(ensemble._models[0], whole_volume=slabs is None, slabs=slabs or 0)
    for ensemble.chunk_slices in (1, 2, 3, 7, 20):
        for slices in range(1, 50):
            parts = ensemble._parts(model, slices)
            assert [k for first, last in parts for k in range(first, last)] == list(range(slices))
            assert max(last - first for first, last in parts) * runs <= max(slabs or ensemble.chunk_slices, runs)


def test_a_session_and_its_runs_have_so_many_threads_as_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime: one pool for each session, and the thread that calls `run` counts as one of it."""
    given: list[int] = []
    opened = OnnxModel.open

    def noted(file: Path, providers: Sequence[Provider], threads: int, grid_size: int) -> OnnxModel:
        given.append(threads)
        return opened(file, providers, 1, grid_size)

    monkeypatch.setattr("fvv.inference.ensemble.most_threads", lambda: 16)
    monkeypatch.setattr(OnnxModel, "open", noted)
    file = write_onnx(tmp_path / "m.onnx")
    for threads in (1, 2, 3, 8, 16, 100):
        OnnxEnsemble([file], PROFILE, device="cpu", threads=threads)
    assert given == [1, 1, 2, 7, 15, 15]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("chunk", [1, 4, 20])
@pytest.mark.parametrize("slices", [1, 2, 9, 23])
def test_no_more_slices_are_in_the_network_at_once_than_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int, chunk: int, slices: int
) -> None:
    monkeypatch.setattr("fvv.inference.ensemble.most_threads", lambda: 2)
    given: list[int] = []
    run = OnnxModel.run

    def noted(model: OnnxModel, batch: np.ndarray, options: onnxruntime.RunOptions | None = None) -> np.ndarray:
        given.append(batch.shape[2] - 6)
        return run(model, batch, options)

    monkeypatch.setattr(OnnxModel, "run", noted)
    file = write_onnx(tmp_path / "m.onnx")
    ensemble = OnnxEnsemble([file], PROFILE, device="cpu", threads=threads, chunk_slices=chunk)
    ensemble.masks(np.zeros((2, slices + 6, 256, 256), dtype=np.float32) - 3)
    assert sum(given) == slices
    assert max(given) * threads <= max(chunk, threads)
    assert len(given) >= min(threads, slices)


def test_logits_are_what_the_model_says(tmp_path: Path, rng: np.random.Generator) -> None:
    case = prepared_case(rng)
    ensemble = OnnxEnsemble([write_onnx(tmp_path / "m.onnx")], PROFILE, device="cpu")
    logits = ensemble.logits(network_input(case, 3))[0]
    b1000, b0 = (np.moveaxis(image.astype(np.float32), 2, 0) for image in (case.b1000, case.b0))
    np.testing.assert_allclose(logits[0], b1000 + 1.5, atol=1e-5)
    np.testing.assert_allclose(logits[2], 0.5 * b1000 + b0 - 1.2, atol=1e-5)
    padded = network_input(case, 3)
    np.testing.assert_array_equal(ensemble.masks(padded)[0], logits > 0)
    ((mask, stroke_logits),) = ensemble.each_output(padded, stroke_logits=True)
    np.testing.assert_array_equal(mask, logits > 0)
    np.testing.assert_array_equal(stroke_logits, logits[Channel.STROKE.value])
    assert next(ensemble.each_output(padded))[1] is None
    limit = float(np.median(logits[Channel.FLAIR_VISIBLE.value]))
    ((mask, _),) = ensemble.each_output(padded, visible_logit=limit)
    np.testing.assert_array_equal(mask, logits > np.array([0, 0, limit], dtype=np.float32)[:, None, None, None])


def test_slices_beyond_the_volume_are_the_minimum_over_both_channels(rng: np.random.Generator) -> None:
    case = prepared_case(rng)
    padded = network_input(case, 3)
    assert (padded[:, :3] == padded.min()).all()
    assert (padded[:, -3:] == padded.min()).all()
    np.testing.assert_array_equal(padded[0, 3:-3], np.moveaxis(case.b1000, 2, 0))


def test_of_four_channels_the_second_is_left_out(tmp_path: Path, rng: np.random.Generator) -> None:
    case = prepared_case(rng)
    three = write_onnx(tmp_path / "three.onnx", whole_volume=False)
    four = write_onnx(
        tmp_path / "four.onnx",
        whole_volume=False,
        weights=((1.0, 0.0), (9.0, 9.0), (1.0, 0.0), (0.5, 1.0)),
        biases=(1.5, 9.0, -2.0, -1.2),
    )
    masks = [OnnxEnsemble([file], PROFILE, device="cpu").masks(network_input(case, 3)) for file in (three, four)]
    np.testing.assert_array_equal(*masks)


def test_segmenting_with_several_models_fuses_them(tmp_path: Path, rng: np.random.Generator) -> None:
    files = [write_onnx(tmp_path / f"{n}.onnx", biases=(1.5, -2.0, bias)) for n, bias in enumerate((-1.2, -9e9))]
    fused = segment_case(prepared_case(rng), OnnxEnsemble(files, PROFILE, device="cpu"))
    first, second = fused.flair_visible_voxels_per_model
    assert first > 0
    assert second == 0
    assert fused.flair_visible_voxels == first / 2


def test_output_that_is_not_finite_is_never_a_mask(tmp_path: Path, rng: np.random.Generator) -> None:
    file = write_onnx(tmp_path / "m.onnx", biases=(float("nan"), 0.0, 0.0))
    with pytest.raises(ModelError, match=r"patient p, .*m\.onnx: the network's output is not finite"):
        segment_case(prepared_case(rng), OnnxEnsemble([file], PROFILE, device="cpu"))


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("no model")
    with pytest.raises(ModelError, match="not a model onnxruntime can run"):
        OnnxEnsemble([tmp_path / "m.onnx"], PROFILE)


def test_a_model_of_another_shape(tmp_path: Path) -> None:
    file = write_onnx(tmp_path / "m.onnx", weights=((1.0, 0.0),) * 2, biases=(0.0, 0.0), whole_volume=False)
    with pytest.raises(ModelError, match="expected one input"):
        OnnxEnsemble([file], PROFILE)


def test_a_device_asked_for_by_name_must_be_there(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write_onnx(tmp_path / "m.onnx")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this machine has one")
    with pytest.raises(ModelError, match=r"'cuda' was asked for; this onnxruntime offers .*cpu"):
        OnnxEnsemble([file], PROFILE, device="cuda")
    assert OnnxEnsemble([file], PROFILE, device="auto").provider == "CPUExecutionProvider"
    assert not caplog.records
    assert OnnxEnsemble([file], PROFILE, device="gpu").provider == "CPUExecutionProvider"
    assert "running on the CPU" in caplog.text


def test_a_provider_that_could_not_start_is_an_error_only_where_it_was_named(caplog: pytest.LogCaptureFixture) -> None:
    wanted = [("CUDAExecutionProvider", {}), ("CPUExecutionProvider", {})]
    with pytest.raises(ModelError, match="could not start"):
        confirm_provider("cuda", wanted, "CPUExecutionProvider")
    confirm_provider("auto", wanted, "CPUExecutionProvider")
    assert "CUDAExecutionProvider could not start; running on CPUExecutionProvider" in caplog.text


def bundle_of(folder: Path, said: list[dict[str, str]]) -> ModelBundle:
    """A bundle of folds 0, 1 ... whose files say the given things of themselves."""
    entries = []
    for fold, metadata in enumerate(said):
        file = write_onnx(folder / f"model{fold + 1}.onnx", biases=(1.5, -2.0, -1.2 - fold))
        model = onnx.load(file)
        onnx.helper.set_model_props(model, metadata)
        onnx.save(model, file)
        entries.append(ModelEntry(file=file.name, sha256=file_sha256(file), fold=fold, run_id="r"))
    write_manifest(folder, BundleManifest(software="x", run_name="r", profile=PROFILE, models=tuple(entries)))
    return ModelBundle.open(folder)


@pytest.mark.parametrize(
    ("said", "match"),
    [
        ({"fold": "1"}, "the file says fold 1, the bundle says 0"),
        ({"fold": "0", "run_id": "q"}, "says run_id q"),
        ({"profile_sha256": "0" * 64}, "says profile_sha256"),
    ],
)
def test_a_file_that_is_another_model_than_the_bundle_says(tmp_path: Path, said: dict[str, str], match: str) -> None:
    bundle = bundle_of(tmp_path, [said])
    with pytest.raises(ModelError, match=match):
        OnnxEnsemble.from_bundle(bundle, device="cpu")


def test_a_file_that_is_what_the_bundle_says(tmp_path: Path) -> None:
    bundle = bundle_of(tmp_path, [{"fold": "0", "run_id": "r", "profile_sha256": PROFILE.sha256}, {}])
    assert len(OnnxEnsemble.from_bundle(bundle, device="cpu")) == 2


def test_a_part_of_the_ensemble(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    bundle = bundle_of(tmp_path, [{}] * 4)
    assert len(open_ensemble(bundle, PredictConfig(compute={"device": "cpu"}))) == 4
    assert "4 of 4 models) on CPU" in caplog.text
    assert len(open_ensemble(bundle, PredictConfig(folds=2, compute={"device": "cpu"}))) == 2
    assert "2 of 4 models) on CPU" in caplog.text
    with pytest.raises(ModelError, match="5 folds asked for, the bundle has 4"):
        open_ensemble(bundle, PredictConfig(folds=5, compute={"device": "cpu"}))
