"""What lies around the brain: skull, scalp, muscle, eyes, mucosa and air, drawn from simple solids in MNI space.

It needs to look right only as far as an echo-planar image shows it: fat is suppressed, bone and air give nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.simulator.fields import smooth_noise
from fvv.simulator.lattice import LATTICE_SHAPE, LATTICE_STEP_MM, LatticeMap, lattice_positions

SKULL_MM = (2.0, 8.0)
"""Distance from the brain at which bone begins and ends."""
SCALP_MM = 13.5
"""Distance from the brain to the skin over the vault."""
EYES_MM = ((-33.0, 57.0, -39.0), (33.0, 57.0, -39.0))


@dataclass(frozen=True, slots=True)
class AirPocket:
    """A place where air meets tissue and bends the field: MNI centre and width (standard deviation), mm."""

    centre_mm: tuple[float, float, float]
    width_mm: tuple[float, float, float]


AIR_POCKETS = (
    AirPocket((0.0, 38.0, -26.0), (12.0, 6.0, 7.0)),  # ethmoid and sphenoid sinus, under the orbitofrontal cortex
    AirPocket((-13.0, 54.0, -24.0), (8.0, 5.0, 6.0)),
    AirPocket((13.0, 54.0, -24.0), (8.0, 5.0, 6.0)),
    AirPocket((-28.0, 52.0, -38.0), (12.0, 6.0, 12.0)),  # orbits, between ethmoid and maxillary sinus
    AirPocket((28.0, 52.0, -38.0), (12.0, 6.0, 12.0)),
    AirPocket((-46.0, -12.0, -38.0), (8.0, 6.0, 7.0)),  # external ear canal, under the temporal lobes
    AirPocket((46.0, -12.0, -38.0), (8.0, 6.0, 7.0)),
    AirPocket((-48.0, -32.0, -36.0), (8.0, 5.5, 8.0)),  # petrous bone and mastoid cells
    AirPocket((48.0, -32.0, -36.0), (8.0, 5.5, 8.0)),
    AirPocket((-40.0, 14.0, -40.0), (8.0, 6.0, 6.0)),  # temporal poles
    AirPocket((40.0, 14.0, -40.0), (8.0, 6.0, 6.0)),
)


CREVICES = AIR_POCKETS + tuple(
    AirPocket(centre, (9.0, 6.0, 7.0))
    for centre in (
        (-62.0, -22.0, -22.0),  # squamous temporal bone, lateral temporal base
        (62.0, -22.0, -22.0),
        (-50.0, -58.0, -40.0),  # mastoid cells behind, at the lateral rim of the cerebellum
        (50.0, -58.0, -40.0),
        (0.0, 58.0, -14.0),  # frontal sinus and crista galli
        (0.0, -12.0, -42.0),  # clivus, before the brainstem
    )
)
"""Around these the air's edges are rough: where narrow bumps of the field are drawn."""


@dataclass(frozen=True, slots=True)
class HeadSurroundings:
    """Fractions 0..1 outside the brain on the 2 mm lattice; where all are 0 there is bone or air.

    Attributes:
        outline_mm: depth below the skin, negative outside the head.
    """

    outline_mm: LatticeMap
    muscle: LatticeMap
    fat: LatticeMap
    mucosa: LatticeMap
    vitreous: LatticeMap


def build_surroundings(hull_distance_mm: FloatArray) -> HeadSurroundings:
    """Put the head around the brain.

    Args:
        hull_distance_mm: (i, j, k) signed distance to the brain's surface on the 2 mm lattice.
    """
    x, y, z = lattice_positions()
    face = _ellipsoid((0, 38, -52), (62, 52, 62))
    neck = (((x / 58) ** 2 + ((y + 28) / 66) ** 2) < 1) & (z < -30)
    nose = _ellipsoid((0, 88, -62), (14, 12, 20))
    head = (hull_distance_mm < SCALP_MM) | face | neck | nose
    depth = ndimage.distance_transform_edt(head) - ndimage.distance_transform_edt(~head)
    depth = (ndimage.gaussian_filter(depth, 1.0) * LATTICE_STEP_MM).astype(np.float32)
    beyond_skull = hull_distance_mm > SKULL_MM[1]
    eyes = _ellipsoid(EYES_MM[0], (12.5, 12, 12)) | _ellipsoid(EYES_MM[1], (12.5, 12, 12))
    orbits = (_ellipsoid((-31, 48, -38), (17, 24, 16)) | _ellipsoid((31, 48, -38), (17, 24, 16))) & ~eyes
    nasal = (np.abs(x) < 15) & (y > 25) & (y < 78) & (z < -30) & (z > -85)
    sinuses = _ellipsoid((-30, 48, -66), (13, 15, 16)) | _ellipsoid((30, 48, -66), (13, 15, 16))
    sinuses |= _ellipsoid((0, 18, -36), (13, 13, 9)) | _ellipsoid((0, 72, -8), (18, 6, 12))
    mastoids = _ellipsoid((-54, -34, -46), (10, 15, 18)) | _ellipsoid((54, -34, -46), (10, 15, 18))
    throat = _ellipsoid((0, 2, -92), (15, 9, 30))
    # Turbinates: thin, irregular sheets of wet mucosa between air; the same in everyone, deformed with the head.
    folds = smooth_noise(np.random.default_rng(0), LATTICE_SHAPE, (2.0, 7.0, 6.0))
    turbinates = nasal & (np.abs(folds) < 0.35)
    inside = (depth > 0) & (hull_distance_mm > 2.5)
    soft = inside & beyond_skull & ~(nasal | sinuses | mastoids | throat | eyes | orbits)
    skin_fat = soft & (depth < 6)
    jaw = _ellipsoid((0, 30, -92), (52, 52, 14)) & ~_ellipsoid((0, 26, -92), (42, 44, 16))
    muscle = soft & (depth >= 5) & ~jaw & (z < 20)
    return HeadSurroundings(
        outline_mm=LatticeMap(depth),
        muscle=_soft(muscle),
        fat=_soft(skin_fat | (inside & orbits & beyond_skull) | (inside & jaw)),
        mucosa=_soft(inside & turbinates),
        vitreous=_soft(inside & eyes),
    )


def _ellipsoid(centre_mm: tuple[float, float, float], radii_mm: tuple[float, float, float]) -> BoolArray:
    x, y, z = lattice_positions()
    (cx, cy, cz), (rx, ry, rz) = centre_mm, radii_mm
    return np.asarray(((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 + ((z - cz) / rz) ** 2 < 1)


def _soft(mask: BoolArray) -> LatticeMap:
    return LatticeMap(ndimage.gaussian_filter(mask.astype(np.float32), 0.5).astype(np.float32))
