"""Small things to test on, built where needed: patients, volumes, prepared cases, ONNX models of a few nodes."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fvv.data import Case, InPlaneGrid, PreparedCase, Volume

AFFINE = np.diag([4.0, 4.0, 10.0, 1.0])
SHAPE = (64, 64, 10)
"""A head-sized field of view (256 mm) of few voxels: the working grid is four times finer in plane."""


def ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> np.ndarray:
    """Bool volume, true inside an ellipsoid (voxels)."""
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    return sum(((axis - c) / r) ** 2 for axis, c, r in zip(grid, centre, radii, strict=True)) <= 1


def head(rng: np.random.Generator, *, lesion: bool = True, visible: bool = True) -> dict[str, np.ndarray]:
    """A head: brain of about 1,100 mL with ventricles, background noise, a lesion bright on b1000.

    The visible part of the lesion is also bright on b0.
    """
    brain = ellipsoid(SHAPE, (31.5, 31.5, 4.5), (17.5, 21.0, 4.4))
    ventricles = ellipsoid(SHAPE, (31.5, 31.5, 5.0), (4.0, 7.0, 1.2))
    stroke = ellipsoid(SHAPE, (22.0, 33.0, 5.0), (5.0, 6.0, 1.6)) & brain if lesion else np.zeros(SHAPE, dtype=bool)
    flair_visible = stroke & (np.arange(SHAPE[1])[None, :, None] < 33) if visible else np.zeros(SHAPE, dtype=bool)
    b0 = np.where(brain, 500.0, 20.0)
    b0[ventricles] = 1500.0
    b0[flair_visible] = 750.0
    b1000 = np.where(brain, 220.0, 15.0)
    b1000[ventricles] = 80.0
    b1000[stroke] = 520.0
    images = {"b0": b0, "b1000": b1000}
    images = {name: np.round(np.abs(image + rng.normal(0, 10, SHAPE))) for name, image in images.items()}
    return {**images, "stroke_roi": stroke, "flairviz_roi": flair_visible, "brain": brain}


def save(path: Path, array: np.ndarray, affine: np.ndarray = AFFINE) -> None:
    """Write a NIfTI file with nibabel alone."""
    path.parent.mkdir(parents=True, exist_ok=True)
    stored = array.astype(np.uint8) if array.dtype == bool else array.astype(np.float32)
    nib.save(nib.Nifti1Image(stored, affine), path)


def write_patient(
    folder: Path, rng: np.random.Generator, *, lesion: bool = True, visible: bool = True, mask: bool = True
) -> dict[str, np.ndarray]:
    """Write one patient's folder; returns what was written."""
    images = head(rng, lesion=lesion, visible=visible)
    for name in ("b0", "b1000", "stroke_roi", "flairviz_roi"):
        save(folder / f"{name}.nii.gz", images[name])
    if mask:
        save(folder / "mask.nii.gz", images["brain"])
    return images


def write_cohort(folder: Path, rng: np.random.Generator, n: int = 6) -> None:
    """Patients p0 ... with lesions visible in every second one."""
    for index in range(n):
        write_patient(folder / f"p{index}", rng, visible=index % 2 == 0)


def case_of(images: dict[str, np.ndarray], affine: np.ndarray = AFFINE, examination_id: str = "p") -> Case:
    """A case in memory, from what `head` gives."""
    return Case(
        examination_id=examination_id,
        b0=Volume(images["b0"], affine),
        b1000=Volume(images["b1000"], affine),
        stroke_roi=Volume(images["stroke_roi"], affine),
        flair_visible_roi=Volume(images["flairviz_roi"], affine),
        mask=Volume(images["brain"], affine),
    )


def prepared_case(
    rng: np.random.Generator, slices: int = 8, size: int = 256, examination_id: str = "p"
) -> PreparedCase:
    """A prepared case of random numbers."""
    grid = InPlaneGrid((size, size, slices), np.diag([1.0, 1.0, 5.0, 1.0]), ((0, 1), (1, 1), (2, 1)), 1.0, size)
    b0, b1000 = rng.normal(size=(2, size, size, slices)).astype(np.float16)
    brain = ellipsoid((size, size, slices), (size / 2,) * 2 + (slices / 2,), (size / 3,) * 2 + (slices,))
    stroke = ellipsoid((size, size, slices), (size / 3, size / 2, slices / 2), (size / 12,) * 2 + (slices / 3,))
    visible = stroke & (b0 > 0)
    return PreparedCase(examination_id, b0, b1000, brain, grid, stroke, visible)


WEIGHTS = ((1.0, 0.0), (1.0, 0.0), (0.5, 1.0))
"""For brain, stroke, FLAIR-visible: how the logit weighs b1000 and b0 (z-scores)."""
BIASES = (1.5, -2.0, -1.2)


def write_onnx(
    path: Path,
    *,
    whole_volume: bool = True,
    biases: tuple[float, ...] = BIASES,
    weights: tuple[tuple[float, float], ...] = WEIGHTS,
    context_weight: float = 0.0,
) -> Path:
    """A model of one convolution: logit = weights . (b1000, b0) + bias, plus a share of the neighbouring slices.

    Args:
        path: file to write.
        whole_volume: our format (free slice axis) or the published one (seven slices).
        biases: one per output channel.
        weights: one pair per output channel.
        context_weight: weight of each of the six other slices, relative to the centre's.
    """
    n = len(weights)
    kernel = np.zeros((n, 2, 7, 1, 1), np.float32)
    kernel += context_weight * np.array(weights, np.float32)[:, :, None, None, None]
    kernel[:, :, 3, 0, 0] = weights
    nodes = [helper.make_node("Conv", ["modelInput", "kernel", "bias"], ["conv"])]
    initial = [numpy_helper.from_array(kernel, "kernel"), numpy_helper.from_array(np.float32(biases), "bias")]
    if whole_volume:
        shape = numpy_helper.from_array(np.array([-1, n, 256, 256], np.int64), "shape")
        nodes += [
            helper.make_node("Transpose", ["conv"], ["slices_first"], perm=[0, 2, 1, 3, 4]),
            helper.make_node("Reshape", ["slices_first", "shape"], ["modelOutput"]),
        ]
        initial.append(shape)
    else:
        nodes.append(helper.make_node("Squeeze", ["conv", "axes"], ["modelOutput"]))
        initial.append(numpy_helper.from_array(np.array([2], np.int64), "axes"))
    slices = "slices" if whole_volume else 7
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("modelInput", TensorProto.FLOAT, ["batch", 2, slices, 256, 256])],
        [helper.make_tensor_value_info("modelOutput", TensorProto.FLOAT, ["out", n, 256, 256])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


BOX_SHAPE = (24, 28, 10)


def box_head(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A box of tissue (100) in background (0 to 5) with a bright corner (300); brain and stroke masks."""
    image = rng.uniform(0, 5, BOX_SHAPE)
    brain = np.zeros(BOX_SHAPE, dtype=bool)
    brain[4:20, 5:24, 1:9] = True
    stroke = np.zeros(BOX_SHAPE, dtype=bool)
    stroke[14:18, 8:13, 4:6] = True
    image[brain] += 100
    image[stroke] += 200
    return image, brain, stroke
