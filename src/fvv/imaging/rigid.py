"""Rigid registration of two images of one head, by mutual information (SimpleITK, the extra `label`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from fvv.arrays import Affine, BoolArray
from fvv.data import Volume
from fvv.errors import GeometryError
from fvv.imaging.geometry import resample_onto

LEAST_OVERLAP = 0.5
"""Of the brain: less of it within the other image, and the two are not of one place (chosen here)."""
_LEVELS_MM = ((4.0, 2.0), (2.0, 1.0), (0.0, 0.5))
"""Standard deviation of the smoothing and longest step, from coarse to fine. Slices are few: none is left out at any
level. With steps of 2 mm at the finest level, one of 84 simulated registrations ran away, by 27 mm."""
_SAMPLED_VOXELS = 25_000
_RADIUS_MM = 60.0
"""Of a head, about: a rotation by 1/60 rad moves it as much as a shift by 1 mm."""
_RIM_MM = 8.0
"""Around the brain that counts too: its edge against skull and background tells most."""
_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, slots=True)
class RigidMotion:
    """Where a point of the fixed image lies in the moving one.

    Attributes:
        to_moving: (4, 4) rotation and shift, RAS+ mm to RAS+ mm.
    """

    to_moving: Affine

    @property
    def rotation_deg(self) -> float:
        """Angle of the rotation, degrees."""
        cosine = (np.trace(self.to_moving[:3, :3]) - 1.0) / 2.0
        return float(np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))))

    def shift_mm(self, place_mm: np.ndarray) -> float:
        """How far it moves a point, (3,) RAS+ mm."""
        moved = self.to_moving[:3, :3] @ place_mm + self.to_moving[:3, 3]
        return float(np.linalg.norm(moved - place_mm))

    def onto(self, moving: Volume, fixed: Volume, *, order: int = 1) -> Volume:
        """The moving image on the grid of the fixed one; see `resample_onto`."""
        return resample_onto(Volume(moving.array, np.linalg.inv(self.to_moving) @ moving.affine), fixed, order=order)


def register(moving: Volume, fixed: Volume, brain: BoolArray) -> RigidMotion:
    """Find the rigid motion between two images of one head; the same images give the same motion.

    It maximises Mattes' mutual information (doi 10.1109/TMI.2002.808353) over the brain, from coarse to fine, and
    starts from where the headers say the images lie: those of one session lie within centimetres of each other.

    Args:
        moving: of any contrast and grid.
        fixed: the image to register to.
        brain: (i, j, k) bool on the grid of `fixed`.

    Raises:
        GeometryError: half of the brain or more lies outside the moving image, before or after.
        ModuleNotFoundError: SimpleITK is not installed.
    """
    import SimpleITK as sitk  # noqa: PLC0415, N813  (an extra; its usual name)

    _refuse_elsewhere(np.eye(4), moving, fixed, brain)
    places = fixed.affine[:3, :3] @ np.argwhere(brain).mean(axis=0) + fixed.affine[:3, 3]
    motion = sitk.Euler3DTransform()
    motion.SetCenter((_LPS[:3, :3] @ places).tolist())
    images = [_image(sitk, fixed), _image(sitk, moving)]
    around = _image(sitk, Volume(_with_rim(brain, fixed), fixed.affine))
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    try:
        # Sums of several threads differ in their last digit, and the metric knows only the default of the process.
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        for smoothed_mm, step_mm in _LEVELS_MM:
            smooth = images
            if smoothed_mm:
                smooth = [sitk.SmoothingRecursiveGaussian(image, smoothed_mm) for image in images]
            motion = _improved(sitk, motion, smooth, around, step_mm)
    except RuntimeError as error:
        raise GeometryError(f"registration failed: {str(error).strip().splitlines()[-1]}") from error
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    lps = np.eye(4)
    lps[:3, :3] = np.array(motion.GetMatrix()).reshape(3, 3)
    lps[:3, 3] = np.array(motion.TransformPoint((0.0, 0.0, 0.0)))
    to_moving = _LPS @ lps @ _LPS
    _refuse_elsewhere(to_moving, moving, fixed, brain)
    return RigidMotion(to_moving)


def _improved(sitk: Any, start: Any, images: list[Any], around: Any, step_mm: float) -> Any:
    """The transform that gradient descent finds from a first one, or this one where what it finds is worse.

    Args:
        start: of points of the fixed image.
        images: fixed and moving.
        around: mask of the fixed image, uint8.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricFixedMask(around)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(min(1.0, _SAMPLED_VOXELS / around.GetNumberOfPixels()), 1)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, 0.02, 100, 0.6, 1e-8)
    method.SetOptimizerScales([_RADIUS_MM**2] * 3 + [1.0] * 3)
    method.SetInitialTransform(start)
    before = method.MetricEvaluate(*images)
    found = sitk.Euler3DTransform(start)
    method.SetInitialTransform(found, inPlace=True)
    method.Execute(*images)
    return found if method.GetMetricValue() <= before else start  # The metric is the negative information.


def _with_rim(brain: BoolArray, fixed: Volume) -> np.ndarray:
    distance = ndimage.distance_transform_edt(~brain, sampling=fixed.spacing_mm)
    return np.asarray(distance <= _RIM_MM, dtype=np.uint8)


def _refuse_elsewhere(to_moving: Affine, moving: Volume, fixed: Volume, brain: BoolArray) -> None:
    to_voxel = np.linalg.inv(moving.affine) @ to_moving @ fixed.affine
    at = to_voxel[:3, :3] @ np.argwhere(brain)[::7].T + to_voxel[:3, 3:]
    inside = ((at > -1) & (at < np.array(moving.array.shape)[:, None])).all(axis=0)
    if not inside.size or inside.mean() < LEAST_OVERLAP:
        share = 0.0 if not inside.size else float(inside.mean())
        hint = "are both of one session, with correct headers?"
        raise GeometryError(f"{share:.0%} of the brain lies within the other image", hint=hint)


def _image(sitk: Any, volume: Volume) -> Any:
    """The same in SimpleITK's axes: x runs fastest, LPS+ mm."""
    array = volume.array if volume.array.dtype == np.uint8 else volume.array.astype(np.float32)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    affine = _LPS @ volume.affine
    image.SetSpacing(volume.spacing_mm)
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetDirection((affine[:3, :3] / np.array(volume.spacing_mm)).ravel().tolist())
    return image
