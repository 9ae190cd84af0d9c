"""One simulated examination, from the seed to the files' contents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.simulator.anatomy import HeadModel
from fvv.simulator.cohort import Purpose, plan_visit, random_stream
from fvv.simulator.contrast import Signals, brain_signals, fat_signals, surroundings_signals
from fvv.simulator.imaging_chain import ImageChain, draw_image_chain, expose
from fvv.simulator.patient import Patient, SeenStroke, find_stroke, lay_down, on_image_grid
from fvv.simulator.scanner import Protocol

Image = TypeVar("Image", NDArray[np.bool_], NDArray[np.int16])
SIMULATOR_VERSION = 2
"""Goes up whenever the same seed and settings give another image, mask or truth: cohorts of two versions never mix."""
READER_BLUR_MM = 1.5
"""Readers outline areas, not voxels: FLAIR's ratio is smoothed by this (standard deviation, in the plane)."""


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What is known of a simulated case: the truth behind the images.

    Attributes:
        dwi_flair_mismatch: the simulated reader's label, None without a stroke.
        contrast_to_noise: mean b1000 excess of the stroke over its own normal tissue, in noise deviations.
        brightening: mean b1000 of the stroke over that of its own normal tissue.
        attempt: how many strokes were drawn and rejected before this one.
    """

    participant_id: str
    patient_id: str
    site: str
    field_strength_t: float
    onset_h: float | None
    pattern: str
    lesion_volume_ml: float
    flair_visible_ml: float
    dwi_flair_mismatch: bool | None
    contrast_to_noise: float | None
    brightening: float | None
    attempt: int
    old_damage: tuple[str, ...]
    skull_stripped: bool
    brain_volume_ml: float
    te_ms: float
    tr_ms: float
    b_s_mm2: float
    snr: float


@dataclass(frozen=True, slots=True)
class SimulatedCase:
    """Images and truth of one case; all arrays (i, j, k) on one grid.

    Attributes:
        b0, b1000, flair: int16.
        stroke, flair_visible, brain: bool; FLAIR-visible lies in the stroke, the stroke in the brain.
        affine: (4, 4), voxel to RAS+ mm.
    """

    b0: NDArray[np.int16]
    b1000: NDArray[np.int16]
    flair: NDArray[np.int16]
    stroke: BoolArray
    flair_visible: BoolArray
    brain: BoolArray
    affine: Affine
    record: CaseRecord


def simulate_case(number: int, model: HeadModel, config: SimulateConfig) -> SimulatedCase:
    """Make case `number` (from 1) of a cohort.

    Args:
        number: of the case; the result depends on it, on the seed and the settings, and on nothing else.
        model: the prepared atlas.
        config: settings of the cohort.

    Raises:
        FvvError: no visible stroke could be drawn.
    """
    visit = plan_visit(number, config)
    patient = lay_down(visit, model, config)
    stroke = None if visit.onset_h is None else find_stroke(patient, model, config)
    healthy = brain_signals(patient.tissue, patient.tissues, patient.protocol)
    diseased, flair_visible = healthy, np.zeros((*patient.protocol.matrix, patient.protocol.n_slices), dtype=bool)
    if stroke is not None:
        before = brain_signals(stroke.at_points.before, patient.tissues, patient.protocol)
        after = brain_signals(stroke.at_points.after, patient.tissues, patient.protocol)
        touched = stroke.at_points.touched
        diseased = _replace(healthy, touched, after)
        normal_flair = healthy.flair.copy()
        normal_flair[touched] = before.flair
        flair_visible = stroke.roi & _exceeds(patient, diseased.flair, normal_flair, config.visible_ratio)
    chain_rng = random_stream(config.seed, number, Purpose.SCAN, 1)
    chain = draw_image_chain(chain_rng, patient.protocol, vary=config.vary_appearance)
    images = _images(patient, diseased, model, chain, config)
    # With the CSF around it, as stripping tools mark it.
    brain = on_image_grid(patient, np.ones_like(diseased.b0)) > 0.5
    brain = _stored(brain, patient.protocol)
    roi = np.zeros_like(flair_visible) if stroke is None else stroke.roi
    stroke_roi = _stored(roi, patient.protocol) & brain
    visible_roi = _stored(flair_visible, patient.protocol) & stroke_roi
    b0, b1000, flair = (_stored(image, patient.protocol) for image in images)
    if chain.skull_stripped(config.skull_stripped_share):
        kept = chain.stripping_mask(brain)
        b0, b1000 = b0 * kept, b1000 * kept
    record = _record(
        patient, stroke, stroke_roi=stroke_roi, visible_roi=visible_roi, brain=brain, chain=chain, config=config
    )
    return SimulatedCase(b0, b1000, flair, stroke_roi, visible_roi, brain, patient.protocol.affine, record)


def _replace(signals: Signals, chosen: BoolArray, new: Signals) -> Signals:
    replaced = []
    for name in Signals.__dataclass_fields__:
        values = getattr(signals, name).copy()
        values[chosen] = getattr(new, name)
        replaced.append(values)
    return Signals(*replaced)


def _exceeds(patient: Patient, flair: FloatArray, normal: FloatArray, ratio: float) -> BoolArray:
    """Where FLAIR exceeds the same voxels' normal FLAIR by a ratio, as a reader with a thick pencil sees it."""
    protocol = patient.protocol
    sigma = [READER_BLUR_MM * n / edge for n, edge in zip(protocol.matrix, protocol.fov_mm, strict=True)]
    seen, expected = (
        ndimage.gaussian_filter(on_image_grid(patient, image), (*sigma, 0.0), truncate=2.5) for image in (flair, normal)
    )
    return np.asarray(seen > ratio * np.maximum(expected, 1e-6))


def _images(
    patient: Patient, brain: Signals, model: HeadModel, chain: ImageChain, config: SimulateConfig
) -> tuple[NDArray[np.int16], NDArray[np.int16], NDArray[np.int16]]:
    """b0, b1000 and FLAIR as the scanner stores them, before the array is turned to its stored orientation."""
    head, protocol = patient.head, patient.protocol
    around = surroundings_signals(head.surroundings_mm, model, patient.tissues, protocol)
    fat = fat_signals(head.surroundings_mm, model, patient.tissues, protocol)
    truth = []
    for name in Signals.__dataclass_fields__:
        image = head.slices(head.brain_index, getattr(brain, name) * head.brain_pile_up)
        image += head.slices(head.surroundings_index, getattr(around, name) * head.surroundings_pile_up)
        fat_image = head.slices(head.surroundings_index, getattr(fat, name) * np.float32(chain.fat_residue))
        # Fat's own frequency displaces it along the slow axis of an echo-planar image.
        image += fat_image if name == "flair" else np.roll(fat_image, chain.fat_shift, axis=1)
        truth.append(image * patient.bias)
    rng = random_stream(config.seed, patient.visit.number, Purpose.NOISE)
    return expose(truth[0], truth[1], truth[2], protocol=protocol, chain=chain, noise=patient.noise, rng=rng)


def _stored(image: Image, protocol: Protocol) -> Image:
    return np.ascontiguousarray(image if protocol.left_to_right else image[::-1])


def _record(
    patient: Patient,
    stroke: SeenStroke | None,
    *,
    stroke_roi: BoolArray,
    visible_roi: BoolArray,
    brain: BoolArray,
    chain: ImageChain,
    config: SimulateConfig,
) -> CaseRecord:
    protocol, visit = patient.protocol, patient.visit
    stroke_ml = float(stroke_roi.sum()) * protocol.voxel_volume_ml
    visible_ml = float(visible_roi.sum()) * protocol.voxel_volume_ml
    label: bool | None = None
    if stroke_ml > 0:
        reader = random_stream(config.seed, visit.number, Purpose.READER)
        label = bool(visible_ml / stroke_ml + reader.normal(0.0, config.reader_noise) < config.mismatch_fraction)
    return CaseRecord(
        participant_id=visit.participant,
        patient_id=visit.patient,
        site=visit.site.name,
        field_strength_t=protocol.field_strength_t,
        onset_h=visit.onset_h,
        pattern="none" if stroke is None else stroke.pattern,
        lesion_volume_ml=stroke_ml,
        flair_visible_ml=visible_ml,
        dwi_flair_mismatch=label,
        contrast_to_noise=None if stroke is None else stroke.contrast_to_noise,
        brightening=None if stroke is None else stroke.brightening,
        attempt=0 if stroke is None else stroke.attempt,
        old_damage=patient.old_damage,
        skull_stripped=chain.skull_stripped(config.skull_stripped_share),
        brain_volume_ml=float(brain.sum()) * protocol.voxel_volume_ml,
        te_ms=protocol.te_ms,
        tr_ms=protocol.tr_ms,
        b_s_mm2=protocol.b_s_mm2,
        snr=protocol.snr,
    )
