"""One simulated examination, from the seed to the files' contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.schemas.simulation import CaseRecord
from fvv.simulator.acquisition import ImageChain, draw_image_chain, expose, stripping_mask
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.brain import fat_signals, surroundings_signals
from fvv.simulator.patient import Patient, SeenStroke, find_stroke, lay_down
from fvv.simulator.scanner import Protocol
from fvv.simulator.visits import Purpose, plan_visit, random_stream

Image = TypeVar("Image", NDArray[np.bool_], NDArray[np.int16])
SIMULATOR_VERSION = 3
"""Goes up when the same seed and settings give another image, mask or record: cohorts of two versions never mix."""
READER_BLUR_MM = 1.5
"""Readers outline areas, not voxels: FLAIR's ratio is smoothed by this (standard deviation, in the plane)."""


@dataclass(frozen=True, slots=True)
class SimulatedCase:
    """Images and reference of one case; all arrays (i, j, k) on one grid.

    Attributes:
        b0, b1000: int16; of a real head float32 where it was no whole number.
        flair: int16; None of a real head.
        stroke, flair_visible, brain: bool; FLAIR-visible lies in the stroke, the stroke in the brain.
        affine: (4, 4), voxel to RAS+ mm.
        record: what was simulated: onset, lesion, scanner, the reader's label.

    Examples:
        >>> import fvv
        >>> case = fvv.simulate_case(seed=5, number=50)  # doctest: +SKIP
        >>> fvv.Volume(case.b1000, case.affine).to_nibabel().to_filename("b1000.nii.gz")  # doctest: +SKIP
    """

    b0: np.ndarray
    b1000: np.ndarray
    flair: NDArray[np.int16] | None
    stroke: BoolArray
    flair_visible: BoolArray
    brain: BoolArray
    affine: Affine
    record: CaseRecord


def simulate_case(number: int, model: HeadModel, config: SimulateConfig) -> SimulatedCase:
    """Make case `number` (from 1) of a cohort.

    Args:
        number: of the case; the result depends on it, on the seed and the settings, and on nothing else.
        model: the head that persons differ from.

    Raises:
        FvvError: no visible stroke was found.
    """
    # Anatomy and tissue.
    visit = plan_visit(number, config)
    patient = lay_down(visit, model, config)
    # Lesion.
    stroke = None if visit.onset_h is None else find_stroke(patient, model, config)
    # Signal.
    signals, flair_visible = _signals(patient, stroke, config.visible_ratio)
    # Scanner.
    chain = draw_image_chain(random_stream(config.seed, number, Purpose.SCAN, 1), patient.protocol, config)
    slices = _slices(patient, signals, model, chain)
    noise_rng = random_stream(config.seed, number, Purpose.NOISE)
    images = expose(slices, patient.protocol, chain, noise=patient.noise, rng=noise_rng, noise_map=patient.noise_map)
    b0, b1000, flair = (_stored(image, patient.protocol) for image in images)
    # What the files hold. The brain includes the CSF around it, as in the masks of stripping tools.
    brain = _stored(patient.image(np.ones_like(signals[0])) > 0.5, patient.protocol)
    roi = np.zeros_like(flair_visible) if stroke is None else stroke.roi
    roi = _stored(roi, patient.protocol) & brain
    flair_visible = _stored(flair_visible, patient.protocol) & roi
    if chain.skull_stripped:
        kept = stripping_mask(brain, chain.stripping_margin)
        b0, b1000 = b0 * kept, b1000 * kept
    volumes_ml = [float(mask.sum()) * patient.protocol.voxel_volume_ml for mask in (brain, roi, flair_visible)]
    record = _record(patient, stroke, *volumes_ml, config=config, skull_stripped=chain.skull_stripped)
    return SimulatedCase(b0, b1000, flair, roi, flair_visible, brain, patient.protocol.affine, record)


def _signals(patient: Patient, stroke: SeenStroke | None, visible_ratio: float) -> tuple[FloatArray, BoolArray]:
    """Noise-free signals (3, n) of the brain's points, and where FLAIR shows the stroke, (i, j, k).

    That is where it exceeds the same voxels' normal FLAIR by a ratio, as a reader with a thick pencil sees it.
    """
    protocol, signals = patient.protocol, patient.brain_signals(patient.tissue)
    if stroke is None:
        return signals, np.zeros((*protocol.matrix, protocol.n_slices), dtype=bool)
    normal_flair = signals[2].copy()
    normal_flair[stroke.touched] = stroke.before[2]
    signals[:, stroke.touched] = stroke.after
    sigma = [READER_BLUR_MM * n / edge for n, edge in zip(protocol.matrix, protocol.fov_mm, strict=True)]
    seen, expected = (
        ndimage.gaussian_filter(patient.image(flair), (*sigma, 0.0), truncate=2.5)
        for flair in (signals[2], normal_flair)
    )
    return signals, stroke.roi & (seen > visible_ratio * np.maximum(expected, 1e-6))


def _slices(patient: Patient, brain: FloatArray, model: HeadModel, chain: ImageChain) -> list[FloatArray]:
    """b0, b1000 and FLAIR of the whole head as noise-free fine slices (x, y, k)."""
    head, points, parts = patient.head, patient.head.surroundings, model.surroundings
    around = surroundings_signals(points.mm, parts, patient.tissues, patient.protocol)
    fat = fat_signals(points.mm, parts, patient.tissues, patient.protocol) * np.float32(chain.fat_residue)
    slices: list[FloatArray] = []
    # Fat's own frequency displaces it along the slow axis of an echo-planar image; FLAIR is none.
    displaced = round(chain.fat_shift_mm * head.shape[1] / patient.protocol.fov_mm[1])
    for i, fat_shift in enumerate((displaced, displaced, 0)):
        image = head.slices(head.brain, brain[i] * head.brain.pile_up)
        image += head.slices(points, around[i] * points.pile_up)
        image += np.roll(head.slices(points, fat[i]), fat_shift, axis=1)
        slices.append(image * patient.bias)
    return slices


def _stored(image: Image, protocol: Protocol) -> Image:
    return np.ascontiguousarray(image if protocol.left_to_right else image[::-1])


def reader_label(number: int, stroke_ml: float, visible_ml: float, config: SimulateConfig) -> bool | None:
    """Whether the simulated reader of case `number` sees a mismatch; None without a stroke."""
    if stroke_ml <= 0:
        return None
    reader = random_stream(config.seed, number, Purpose.READER)
    return bool(visible_ml / stroke_ml + reader.normal(0.0, config.reader_noise) < config.mismatch_fraction)


def _record(
    patient: Patient,
    stroke: SeenStroke | None,
    brain_ml: float,
    stroke_ml: float,
    visible_ml: float,
    *,
    config: SimulateConfig,
    skull_stripped: bool,
) -> CaseRecord:
    protocol, visit = patient.protocol, patient.visit
    return CaseRecord(
        participant_id=visit.participant,
        patient_id=visit.patient,
        anatomy=patient.anatomy,
        site=visit.site.name,
        field_strength_t=protocol.field_strength_t,
        onset_h=visit.onset_h,
        pattern="none" if stroke is None else stroke.pattern,
        lesion_mask=None if stroke is None else stroke.mask,
        lesion_volume_ml=stroke_ml,
        flair_visible_ml=visible_ml,
        dwi_flair_mismatch=reader_label(visit.number, stroke_ml, visible_ml, config),
        contrast_to_noise=None if stroke is None else stroke.contrast_to_noise,
        brightening=None if stroke is None else stroke.brightening,
        attempt=0 if stroke is None else stroke.attempt,
        old_damage=patient.old_damage,
        skull_stripped=skull_stripped,
        brain_volume_ml=brain_ml,
        te_ms=protocol.te_ms,
        tr_ms=protocol.tr_ms,
        b_s_mm2=protocol.b_s_mm2,
        snr=protocol.snr,
    )
