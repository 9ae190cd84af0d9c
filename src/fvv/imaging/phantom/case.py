"""One simulated examination, from the seed to the files' contents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import Affine, BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.errors import FvvError
from fvv.imaging.phantom.anatomy import HeadModel, draw_person_shape, tissue_fractions
from fvv.imaging.phantom.artefacts import draw_distortion, receive_bias
from fvv.imaging.phantom.cohort import Purpose, Visit, plan_visit, random_stream
from fvv.imaging.phantom.contrast import (
    BrainTissue,
    Signals,
    StrokeAtPoints,
    apply_stroke,
    brain_signals,
    fat_signals,
    healthy_tissue,
    surroundings_signals,
    with_old_damage,
)
from fvv.imaging.phantom.fields import apply_separably, area_resampling, smooth_noise
from fvv.imaging.phantom.imaging_chain import ImageChain, draw_image_chain, expose
from fvv.imaging.phantom.lattice import LATTICE_SHAPE, LATTICE_STEP_MM
from fvv.imaging.phantom.lesions import draw_appearance, draw_pattern, stroke_depth
from fvv.imaging.phantom.old_damage import draw_old_damage
from fvv.imaging.phantom.sampling import PlacedHead, draw_pose, place_head
from fvv.imaging.phantom.scanner import Protocol, draw_protocol
from fvv.imaging.phantom.signal import diffusion_weighted, spin_echo
from fvv.imaging.phantom.tissue import TissueSet, draw_tissues

SIMULATOR_VERSION = 1
"""Goes up whenever the same seed gives other images."""
MAX_ATTEMPTS = 25
"""Strokes drawn before giving up on one that can be seen; one in five or so is rejected."""
MINIMUM_VOXELS = 4
MINIMUM_ML = 0.1
"""A stroke smaller than either of these on the image is not drawn by a reader."""
READER_BLUR_MM = 1.5
"""Readers outline areas, not voxels: FLAIR's ratio is smoothed by this (standard deviation, in the plane)."""


@dataclass(frozen=True, slots=True)
class CaseRecord:
    """What is known of a simulated case: the truth behind the images.

    Attributes:
        dwi_flair_mismatch: the simulated reader's label, None without a stroke.
        contrast_to_noise: mean b1000 excess of the stroke over its own normal tissue, in noise deviations.
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


@dataclass(frozen=True, slots=True)
class _Patient:
    """A visit's head, laid in its scanner: all but the stroke."""

    visit: Visit
    protocol: Protocol
    head: PlacedHead
    tissue: BrainTissue
    tissues: TissueSet
    bias: FloatArray
    old_damage: tuple[str, ...]
    atlas_share: float
    noise: float


@dataclass(frozen=True, slots=True)
class _Stroke:
    """A stroke seen by one scanner; images (i, j, k) noise-free on the image grid."""

    pattern: str
    attempt: int
    at_points: StrokeAtPoints
    roi: BoolArray
    contrast_to_noise: float


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
    patient = _lay_down(visit, model, config)
    stroke = None if visit.onset_h is None else _find_stroke(patient, model, config)
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
    chain = draw_image_chain(random_stream(config.seed, number, Purpose.SCAN, 1), patient.protocol)
    images = _images(patient, diseased, model, chain, config)
    brain = _on_image_grid(patient, np.ones_like(diseased.b0) * (patient.head.brain_hull_mm < 0)) > 0.5
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


def _lay_down(visit: Visit, model: HeadModel, config: SimulateConfig) -> _Patient:
    person_rng = random_stream(config.seed, visit.person, Purpose.PERSON)
    person = draw_person_shape(person_rng)
    texture = smooth_noise(person_rng, LATTICE_SHAPE, (6.0 / LATTICE_STEP_MM,) * 3)
    tissues = draw_tissues(person_rng, visit.site.field_strength_t)
    damage = draw_old_damage(random_stream(config.seed, visit.person, Purpose.DISEASE), model)
    scan_rng = random_stream(config.seed, visit.number, Purpose.SCAN)
    protocol = draw_protocol(scan_rng, visit.site)
    pose = draw_pose(scan_rng, person)
    head = place_head(protocol, pose, person, model, draw_distortion(scan_rng, visit.site.field_strength_t))
    fractions = tissue_fractions(head.brain_mm, head.brain_hull_mm, model, person)
    tissue = with_old_damage(healthy_tissue(head.brain_mm, fractions, texture), head.brain_mm, damage)
    nx, ny, n_slices, _ = head.shape
    spacing = (protocol.fov_mm[0] / nx, protocol.fov_mm[1] / ny, protocol.spacing_mm)
    return _Patient(
        visit=visit,
        protocol=protocol,
        head=head,
        tissue=tissue,
        tissues=tissues,
        bias=receive_bias(scan_rng, (nx, ny, n_slices), spacing),
        old_damage=tuple(lesion.name for lesion in damage),
        atlas_share=pose.atlas_share,
        noise=_white_matter_b1000(tissues, protocol) / protocol.snr,
    )


def _find_stroke(patient: _Patient, model: HeadModel, config: SimulateConfig) -> _Stroke:
    """The person's stroke: the first drawn that their first scan shows well enough."""
    visit = patient.visit
    if visit.is_follow_up:
        first = _lay_down(plan_visit(visit.person, config), model, config)
        return _draw_stroke(patient, model, config, _find_stroke(first, model, config).attempt)
    for attempt in range(MAX_ATTEMPTS):
        stroke = _draw_stroke(patient, model, config, attempt)
        voxels = int(stroke.roi.sum())
        large_enough = voxels >= MINIMUM_VOXELS and voxels * patient.protocol.voxel_volume_ml >= MINIMUM_ML
        if large_enough and stroke.contrast_to_noise >= config.minimum_contrast_to_noise:
            return stroke
    raise FvvError(f"no visible stroke in {MAX_ATTEMPTS} draws", patient=visit.participant, hint="use another seed")


def _draw_stroke(patient: _Patient, model: HeadModel, config: SimulateConfig, attempt: int) -> _Stroke:
    rng = random_stream(config.seed, patient.visit.person, Purpose.STROKE, attempt)
    pattern = draw_pattern(rng)
    volume_ml = float(np.exp(rng.uniform(*np.log(pattern.volume_ml))))
    appearance = draw_appearance(rng)
    depth = stroke_depth(rng, pattern, volume_ml, model, atlas_share=patient.atlas_share)
    head, onset_h = patient.head, patient.visit.onset_h or 0.0
    at_points = apply_stroke(patient.tissue, head.brain_mm, depth, appearance=appearance, onset_h=onset_h, rng=rng)
    # Readers outline the infarct with the sulci that run through it, not the rim of CSF beyond the brain.
    roi = _on_image_grid(patient, at_points.share * (head.brain_hull_mm < 0)) > 0.5
    before = brain_signals(at_points.before, patient.tissues, patient.protocol).b1000
    after = brain_signals(at_points.after, patient.tissues, patient.protocol).b1000
    excess = np.zeros(at_points.share.shape, dtype=np.float32)
    excess[at_points.touched] = after - before
    rise = _on_image_grid(patient, excess * head.brain_pile_up, biased=True)[roi]
    contrast = float(rise.mean() / patient.noise) if roi.any() else 0.0
    return _Stroke(pattern.name, attempt, at_points, roi, contrast)


def _on_image_grid(patient: _Patient, values: FloatArray, *, biased: bool = False) -> FloatArray:
    """Brain-point values as a noise-free image (i, j, k) on the reconstructed grid."""
    slices = patient.head.slices(patient.head.brain_index, values)
    if biased:
        slices *= patient.bias
    matrices = [area_resampling(n, m) for n, m in zip(patient.protocol.matrix, slices.shape[:2], strict=True)]
    return apply_separably(slices, *matrices)


def _replace(signals: Signals, chosen: BoolArray, new: Signals) -> Signals:
    replaced = []
    for name in Signals.__dataclass_fields__:
        values = getattr(signals, name).copy()
        values[chosen] = getattr(new, name)
        replaced.append(values)
    return Signals(*replaced)


def _exceeds(patient: _Patient, flair: FloatArray, normal: FloatArray, ratio: float) -> BoolArray:
    """Where FLAIR exceeds the same voxels' normal FLAIR by a ratio, as a reader with a thick pencil sees it."""
    protocol = patient.protocol
    sigma = [READER_BLUR_MM * n / edge for n, edge in zip(protocol.matrix, protocol.fov_mm, strict=True)]
    seen, expected = (
        ndimage.gaussian_filter(_on_image_grid(patient, image), (*sigma, 0.0), truncate=2.5)
        for image in (flair, normal)
    )
    return np.asarray(seen > ratio * np.maximum(expected, 1e-6))


def _images(
    patient: _Patient, brain: Signals, model: HeadModel, chain: ImageChain, config: SimulateConfig
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


def _stored(image: NDArray[np.generic], protocol: Protocol) -> NDArray[np.generic]:
    return np.ascontiguousarray(image if protocol.left_to_right else image[::-1])


def _white_matter_b1000(tissues: TissueSet, protocol: Protocol) -> float:
    white = tissues.white_matter
    b0 = spin_echo(white.proton_density, white.t1_ms, white.t2_ms, te_ms=protocol.te_ms, tr_ms=protocol.tr_ms)
    return float(diffusion_weighted(b0, white.adc_mm2_s, b_s_mm2=protocol.b_s_mm2))


def _record(
    patient: _Patient,
    stroke: _Stroke | None,
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
        attempt=0 if stroke is None else stroke.attempt,
        old_damage=patient.old_damage,
        skull_stripped=chain.skull_stripped(config.skull_stripped_share),
        brain_volume_ml=float(brain.sum()) * protocol.voxel_volume_ml,
        te_ms=protocol.te_ms,
        tr_ms=protocol.tr_ms,
        b_s_mm2=protocol.b_s_mm2,
        snr=protocol.snr,
    )
