"""Stores, checkpoints, ONNX files and bundles that were damaged, forged or swapped."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, external_data_helper, helper

import odd_models
from builders import write_onnx
from corpus.registry import Place, Variant
from fvv.config import PROFILES
from fvv.inference.golden import SLICES, golden_input
from fvv.io.bundle import write_golden
from fvv.io.store import CaseStore
from fvv.system.fingerprint import file_sha256

Change = Callable[[Path], object]


class Trap:
    """Runs a command when it is unpickled: it must not be."""

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, ("touch owned",)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(where: float) -> Change:
    def change(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[int(where * len(data))] ^= 8
        path.write_bytes(bytes(data))

    return change


def _write(data: bytes) -> Change:
    return lambda path: path.write_bytes(data)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def _broken_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("not-fetched")


def _json(change: Callable[[dict[str, Any]], object]) -> Change:
    def change_it(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return change_it


def _gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _zip_trap(path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"fvv": Trap()}, protocol=2))
        archive.writestr("archive/version", "3\n")
        archive.writestr("../../owned", "a path that climbs")
    path.write_bytes(stream.getvalue())


def _constant(path: Path) -> None:
    value = helper.make_tensor("v", TensorProto.FLOAT, [1, 3, 1, 1], [1.0, 1.0, 1.0])
    node = helper.make_node("Constant", [], ["modelOutput"], value=value)
    output = helper.make_tensor_value_info("modelOutput", TensorProto.FLOAT, [1, 3, 1, 1])
    graph = helper.make_graph([node], "constant", [], [output])
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def _flip_weights(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.file_size)
        content = archive.read(largest)
    data = bytearray(path.read_bytes())
    data[data.find(content) + len(content) // 2] ^= 8
    path.write_bytes(bytes(data))


DEEP = b"[" * 100_000
CASE = "cases/secret_0.zarr"
STORES: dict[str, tuple[str, Change, str, str]] = {
    "description-empty": ("store.json", _write(b""), "error", "store.json"),
    "description-deeply-nested": ("store.json", _write(DEEP), "error", "store.json"),
    "description-a-list": ("store.json", _write(b"[]"), "error", "JSON object"),
    "description-of-other-schema": ("store.json", _json(lambda c: c.update(schema_version=99)), "error", "edited"),
    "description-without-profile": ("store.json", _json(lambda c: c.pop("profile")), "error", "edited"),
    "description-of-odd-profile": ("store.json", _json(lambda c: c["profile"].update(clip="x")), "error", "edited"),
    "description-gone": ("store.json", _gone, "error", "no prepared data"),
    "split-gone": ("folds.tsv", _gone, "error", "folds.tsv"),
    "split-binary": ("folds.tsv", _write(bytes(range(256))), "error", "folds.tsv"),
    "split-of-strangers": ("folds.tsv", lambda p: _rename_in(p, "secret_0", "../../x"), "error", "not prepared"),
    "patient-gone": (CASE, _gone, "error", "not prepared"),
    "images-gone": (f"{CASE}/images/c/0/0/0/0", _gone, "failure", "damaged"),
    "labels-gone": (f"{CASE}/labels/c/0/0/0/0", _gone, "failure", "damaged"),
    "images-empty": (f"{CASE}/images/c/0/0/0/0", _write(b""), "failure", "damaged"),
    "images-cut": (f"{CASE}/images/c/0/0/0/0", _cut, "failure", "damaged"),
    "images-flipped-at-a-tenth": (f"{CASE}/images/c/0/0/0/0", _flip(0.1), "failure", "damaged"),
    "images-flipped-at-half": (f"{CASE}/images/c/0/0/0/0", _flip(0.5), "failure", "damaged"),
    "images-flipped-at-the-end": (f"{CASE}/images/c/0/0/0/0", _flip(0.999), "failure", "damaged"),
    "labels-flipped": (f"{CASE}/labels/c/0/0/0/0", _flip(0.5), "failure", "damaged"),
    "array-description-gone": (f"{CASE}/images/zarr.json", _gone, "failure", "damaged"),
    "array-description-cut": (f"{CASE}/images/zarr.json", _cut, "failure", "damaged"),
    "array-of-terabytes": (
        f"{CASE}/images/zarr.json", _json(lambda c: c.update(shape=[2, 10**9, 256, 256])), "failure", "damaged"
    ),
    "patient-description-empty": (f"{CASE}/zarr.json", _write(b""), "failure", "damaged"),
    "patient-description-deeply-nested": (f"{CASE}/zarr.json", _write(DEEP), "failure", "damaged"),
    "patient-scale-changed": (
        f"{CASE}/zarr.json", _json(lambda c: c["attributes"]["grid"].update(scale=2.0)), "failure", "damaged"
    ),
    "patient-lesion-changed": (
        f"{CASE}/zarr.json", _json(lambda c: c["attributes"]["stroke_voxels"].append(9)), "failure", "damaged"
    ),
    "patient-swapped-with-another": (CASE, lambda p: _become(p, p.with_name("secret_1.zarr")), "failure", "damaged"),
}  # fmt: skip
CHECKPOINTS: dict[str, tuple[Change, str]] = {
    "empty": (_write(b""), "best.ckpt"),
    "text": (_write(b"weights"), "best.ckpt"),
    "cut": (_cut, "cannot be read"),
    "flipped": (_flip_weights, "checksum"),
    "pickle-that-runs-code": (lambda p: p.write_bytes(pickle.dumps(Trap())), "best.ckpt"),
    "zip-that-runs-code": (_zip_trap, "best.ckpt"),
    "folder": (_folder, "regular file"),
    "gone": (_gone, "no checkpoint"),
    "of-another-fold": (lambda p: shutil.copy(p.parents[1] / "fold_1" / "best.ckpt", p), "fold 1"),
    "without-our-words": (lambda p: _resave(p, lambda c: c.pop("fvv")), "not a checkpoint"),
    "of-another-schema": (lambda p: _resave(p, lambda c: c["fvv"].update(schema_version=9)), "newer version"),
    "without-weights": (lambda p: _resave(p, lambda c: c.update(state_dict={})), "weights"),
    "of-another-run": (lambda p: _resave(p, lambda c: c["fvv"].update(run_id="x")), "run"),
    "weights-of-other-shape": (lambda p: _resave(p, _halve), "weights"),
    "weights-not-finite": (lambda p: _resave(p, _not_finite), "differ"),
}
RESUMED = ("empty", "text", "cut", "pickle-that-runs-code", "zip-that-runs-code", "without-our-words")
MODELS: dict[str, tuple[Change, str]] = {
    "empty": (_write(b""), "model1.onnx"),
    "text": (_write(b"no model"), "model1.onnx"),
    "cut": (_cut, "model1.onnx"),
    "folder": (_folder, "model1.onnx"),
    "gap-in-the-numbers": (lambda p: p.rename(p.with_name("model4.onnx")), "numbers"),
    "two-channels": (lambda p: write_onnx(p, whole_volume=False, biases=(0, 0), weights=((1, 0), (0, 1))), "expected"),
    "data-missing": (lambda p: _external(p, "weights.bin"), "model1.onnx"),
    "data-outside-the-folder": (lambda p: _external(p, "../../secret.bin"), "model1.onnx"),
    "data-at-an-absolute-path": (lambda p: _external(p, "/etc/passwd"), "model1.onnx"),
    "unknown-operation": (lambda p: _operation(p, "Summon"), "model1.onnx"),
    "custom-domain": (lambda p: _operation(p, "Conv", "evil.example"), "model1.onnx"),
    "no-input": (_constant, "model1.onnx"),
    "named-pipe": (_pipe, "model1.onnx: expected a regular file"),
    "broken-link": (_broken_link, "model1.onnx: a broken link"),
    "weights-in-a-named-pipe": (lambda p: _pipe(p.with_name("weights.bin")), "weights.bin: expected a regular file"),
    "of-half-precision": (odd_models.of_half_precision, "in float32, got"),
    "of-planes-of-320": (odd_models.of_grid_320, "320, 320"),
    "of-four-slabs": (lambda p: odd_models.of_batch(p, 4), "batch free or 1"),
}
RUNS: dict[str, tuple[Change, str, str]] = {
    "of-nan": (lambda p: write_onnx(p, whole_volume=False, biases=(np.nan,) * 3), "failure", "not finite"),
    "with-a-sigmoid": (odd_models.sigmoid, "failure", "these are not logits"),
    "of-fewer-slices": (odd_models.one_slice_short, "failure", "expected an output of (10, 3"),
    "that-fails-in-a-run": (odd_models.of_three_slices, "failure", "could not run the model"),
    "of-terabytes": (odd_models.of_terabytes, "failure", "memory ran out"),
    "of-one-slab": (lambda p: odd_models.of_batch(p, 1), "success", ""),
    "that-marks-the-air": (
        lambda p: write_onnx(p, whole_volume=False, weights=((-1, 0), (1, 0), (0.5, 1)), biases=(-1, -2, -3)),
        "not assessable", "no head holds more",
    ),
    "that-marks-all-as-stroke": (
        lambda p: write_onnx(p, whole_volume=False, biases=(1.5, 1.4, -3)), "not assessable", "no stroke is so large"
    ),
}  # fmt: skip
"""Models that open, and what comes of each patient."""
BUNDLES: dict[str, tuple[Change, str]] = {
    "not-json": (_write(b"{"), "bundle.json"),
    "deeply-nested": (_write(DEEP), "bundle.json"),
    "of-other-schema": (_json(lambda c: c.update(schema_version=9)), "schema_version 9"),
    "unknown-key": (_json(lambda c: c.update(run_this="rm")), "run_this"),
    "without-models": (_json(lambda c: c.update(models=[])), "no model"),
    "of-unknown-profile": (_json(lambda c: c["profile"].update(name="robust-v9")), "robust-v9"),
    "model-outside": (_json(lambda c: c["models"][0].update(file="../model1.onnx")), "outside"),
    "model-at-an-absolute-path": (_json(lambda c: c["models"][0].update(file="/etc/passwd")), "outside"),
    "model-is-the-folder": (_json(lambda c: c["models"][0].update(file="..")), "bundle"),
    "model-gone": (lambda p: (p.parent / "model1.onnx").unlink(), "missing"),
    "model-changed": (lambda p: _flip(0.5)(p.parent / "model1.onnx"), "changed"),
    "named-pipe": (_pipe, "bundle.json: expected a regular file"),
    "broken-link": (_broken_link, "bundle.json: a broken link"),
    "reference-is-a-named-pipe": (lambda p: _pipe(p.with_name("golden.npz")), "golden.npz: expected a regular file"),
    "profile-without-neighbours": (_json(lambda c: c["profile"].update(context_slices=0)), "profile.context_slices"),
    "profile-of-no-grid": (_json(lambda c: c["profile"].update(grid_size=0)), "profile.grid_size"),
    "profile-of-no-range": (_json(lambda c: c["profile"].update(clip=0)), "profile.clip"),
    "of-another-processor": (lambda p: _reference(p, _zeros), "does not give its reference output on this machine"),
    "reference-of-one-model": (lambda p: _reference(p, lambda n: _zeros(n)[:1]), "expected an output of (2 models"),
    "reference-of-other-axes": (lambda p: _reference(p, np.zeros), "golden.npz: expected an output"),
    "reference-of-gigabytes": (lambda p: _reference(p, lambda _: np.zeros(2**30, np.uint8)), "unpacks to"),
}  # fmt: skip


def variants() -> Iterator[Variant]:
    """The store before `evaluate`, checkpoints before `convert` and `train`, models before `predict`."""
    for name, (file, change, outcome, says) in STORES.items():
        yield Variant(f"evaluate-store-{name}", "evaluate", _evaluate(file, change), outcome, says)
    yield Variant("evaluate-model-that-saw-the-patient", "evaluate", _seen, "error", "trained")
    yield Variant("evaluate-model-that-says-nothing", "evaluate", _says_nothing, "error", "on whom")
    yield Variant("evaluate-published-models", "evaluate", _published, "error", "model")
    yield Variant("evaluate-other-profile", "evaluate", _other_profile, "error", "profile")
    yield Variant("evaluate-site-of-html", "evaluate", _html_site, "success", also=_no_script)
    for name, (change, says) in CHECKPOINTS.items():
        yield Variant(f"convert-checkpoint-{name}", "convert", _convert(change), "error", says, also=_not_owned)
    for name in RESUMED:
        yield Variant(
            f"train-resumes-{name}", "train", _resume(CHECKPOINTS[name][0]), "error", "last.ckpt", also=_not_owned
        )
    yield Variant("train-no-such-fold", "train", lambda p: _train(p, "7"), "error", "folds 0 to 1")
    yield Variant("train-damaged-patient", "train", _train_damaged, "error", "damaged")
    for name, (change, says) in MODELS.items():
        yield Variant(f"predict-model-{name}", "predict", _predict(change), "error", says, also=_not_owned)
    for name, (change, says) in BUNDLES.items():
        yield Variant(f"predict-bundle-{name}", "predict", _predict_bundle(change), "error", says, also=_not_owned)
    command = _json(lambda c: c["profile"].update(mask_method="command", mask_command="touch owned {mask}"))
    yield Variant(
        "predict-bundle-that-names-a-program", "predict", _no_mask(command), "error", "mask-command", also=_not_owned
    )
    for name, (change, outcome, says) in RUNS.items():
        yield Variant(f"predict-model-{name}", "predict", _predict_both(change), outcome, says)
    forged = _json(lambda c: c.update(run_name="\x1b[31mred", notice="fine\nn0: mismatch likely, FVV 0.000 mL"))
    yield Variant("predict-bundle-that-forges-lines", "predict", _predict_bundle(forged), "success", r"\x1b[31mred")
    yield Variant("predict-no-models", "predict", _predict_none, "error", "model")


def _evaluate(file: str, change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.store / file)
        return _evaluation(place)

    return build


def _evaluation(place: Place, models: Path | None = None) -> list[str]:
    words = ["-i", str(place.store), "-m", str(models or place.bundle), "-o", str(place.out)]
    return ["evaluate", *words, "-c", str(place.base / "tiny.yaml")]


def _seen(place: Place) -> list[str]:
    def change(content: dict[str, Any]) -> None:
        everyone = [person for model in content["models"] for person in model["trained_on"]]
        content["models"][0]["trained_on"] = sorted(set(everyone))

    _json(change)(place.bundle / "bundle.json")
    return _evaluation(place)


def _says_nothing(place: Place) -> list[str]:
    _json(lambda content: content["models"][0].update(trained_on=[]))(place.bundle / "bundle.json")
    return _evaluation(place)


def _published(place: Place) -> list[str]:
    return _evaluation(place, place.models)


def _other_profile(place: Place) -> list[str]:
    _json(lambda content: content["profile"].update(clip=5.0))(place.bundle / "bundle.json")
    return _evaluation(place)


def _html_site(place: Place) -> list[str]:
    store = CaseStore.open(place.store)
    for name in store.participants:
        record = store.record(name)
        participant = replace(record.participant, site="</script><script>alert(1)</script>")
        hashes = {"image_sha256": record.image_sha256, "source_sha256": record.source_sha256}
        store.write(store.read(name), participant, **hashes)
    return _evaluation(place)


def _no_script(place: Place) -> None:
    pages = list(place.out.rglob("*.html"))
    assert pages
    for page in pages:
        assert "<script>alert(1)" not in page.read_text()


def _convert(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.trained / "tiny" / "fold_0" / "best.ckpt")
        where = ["-i", str(place.trained), "--store", str(place.store), "-o", str(place.out)]
        return ["convert", "-n", "tiny", *where]

    return build


def _resume(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        shutil.copytree(place.base / "trained", place.out)
        (place.out / "tiny" / "fold_0" / "done.json").unlink()
        (place.out / "tiny" / "fold_0" / "best.ckpt").rename(place.out / "tiny" / "fold_0" / "last.ckpt")
        change(place.out / "tiny" / "fold_0" / "last.ckpt")
        return _train(place, "0")

    return build


def _train(place: Place, fold: str) -> list[str]:
    words = ["-i", str(place.store), "-o", str(place.out), "-c", str(place.base / "tiny.yaml")]
    return ["train", "--fold", fold, *words]


def _train_damaged(place: Place) -> list[str]:
    for patient in range(4):
        _flip(0.5)(place.store / f"cases/secret_{patient}.zarr/images/c/0/0/0/0")
    return _train(place, "0")


def _predict(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.models / "model1.onnx")
        return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]

    return build


def _predict_bundle(change: Change) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        change(place.bundle / "bundle.json")
        return ["predict", str(place.new), "-m", str(place.bundle), "-o", str(place.out), "--device", "cpu"]

    return build


def _no_mask(change: Change) -> Callable[[Place], list[str]]:
    """With patients that need a mask made."""

    def build(place: Place) -> list[str]:
        for mask in place.new.glob("*/mask.nii.gz"):
            mask.unlink()
        return _predict_bundle(change)(place)

    return build


def _predict_none(place: Place) -> list[str]:
    shutil.rmtree(place.models)
    place.models.mkdir()
    return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out)]


def _not_owned(place: Place) -> None:
    assert not list(place.root.rglob("owned"))


def _rename_in(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(f"{old}\t", f"{new}\t"))


def _become(path: Path, other: Path) -> None:
    shutil.rmtree(path)
    shutil.copytree(other, path)


def _resave(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    import torch  # noqa: PLC0415 - only variants of convert and train may load it

    content = torch.load(path, weights_only=True, map_location="cpu")
    change(content)
    torch.save(content, path)


def _halve(content: dict[str, Any]) -> None:
    content["state_dict"] = {name: tensor[:1] for name, tensor in content["state_dict"].items() if tensor.ndim}


def _not_finite(content: dict[str, Any]) -> None:
    for tensor in content["state_dict"].values():
        if tensor.is_floating_point():
            tensor.fill_(float("nan"))


def _external(path: Path, location: str) -> None:
    model = onnx.load(path)
    external_data_helper.convert_model_to_external_data(model, location="weights.bin", size_threshold=0)
    (path.parent.parent / "secret.bin").write_bytes(bytes(4096))
    onnx.save(model, path)
    (path.parent / "weights.bin").unlink()
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = location
    path.write_bytes(model.SerializeToString())


def _operation(path: Path, name: str, domain: str = "") -> None:
    model = onnx.load(path)
    model.graph.node[0].op_type, model.graph.node[0].domain = name, domain
    if domain:
        model.opset_import.append(helper.make_opsetid(domain, 1))
    path.write_bytes(model.SerializeToString())


def _predict_both(change: Change) -> Callable[[Place], list[str]]:
    """With both models changed alike: a single one is outvoted."""

    def build(place: Place) -> list[str]:
        change(place.models / "model2.onnx")
        return _predict(change)(place)

    return build


def _zeros(n_models: int) -> np.ndarray:
    return np.zeros((n_models, 3, SLICES, 64, 64), np.float32)


def _reference(manifest: Path, make: Callable[[int], np.ndarray]) -> None:
    """Give a bundle a reference output."""
    path, content = manifest.with_name("golden.npz"), json.loads(manifest.read_text())
    write_golden(path, golden_input(PROFILES["robust-v1"]), make(len(content["models"])))
    content["golden"] = {"file": path.name, "sha256": file_sha256(path)}
    manifest.write_text(json.dumps(content))
