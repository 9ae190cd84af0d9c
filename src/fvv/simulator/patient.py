"""A person laid in a scanner, and the stroke that this scanner shows of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.errors import FvvError
from fvv.simulator.anatomy import HeadModel, draw_person_shape, tissue_fractions
from fvv.simulator.artefacts import Distortion, draw_distortion, receive_bias, with_bands
from fvv.simulator.cohort import Purpose, Visit, plan_visit, random_stream
from fvv.simulator.contrast import (
    BrainTissue,
    StrokeAtPoints,
    apply_stroke,
    brain_signals,
    healthy_tissue,
    posterior_fossa_texture,
    with_old_damage,
)
from fvv.simulator.fields import apply_separably, area_resampling, smooth_noise
from fvv.simulator.lattice import LATTICE_SHAPE, LATTICE_STEP_MM
from fvv.simulator.lesions import draw_appearance, draw_pattern_and_volume, pace_of_size, stroke_depth
from fvv.simulator.old_damage import draw_old_damage
from fvv.simulator.sampling import PlacedHead, draw_pose, place_head
from fvv.simulator.scanner import Protocol, draw_protocol
from fvv.simulator.signal import diffusion_weighted, spin_echo
from fvv.simulator.tissue import TissueSet, draw_tissues

MAX_ATTEMPTS = 25
"""Strokes drawn before giving up on one that can be seen; with the default settings few are rejected."""
MINIMUM_VOXELS = 4
MINIMUM_ML = 0.1
"""A stroke smaller than either of these on the image is not drawn by a reader."""


@dataclass(frozen=True, slots=True)
class Patient:
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
class SeenStroke:
    """A stroke seen by one scanner; images (i, j, k) noise-free on the image grid."""

    pattern: str
    attempt: int
    at_points: StrokeAtPoints
    roi: BoolArray
    contrast_to_noise: float
    brightening: float


def lay_down(visit: Visit, model: HeadModel, config: SimulateConfig) -> Patient:
    """Draw the person (the same at every visit), their old damage, the protocol and how they lie in the scanner."""
    person_rng = random_stream(config.seed, visit.person, Purpose.PERSON)
    person = draw_person_shape(person_rng)
    texture = smooth_noise(person_rng, LATTICE_SHAPE, (6.0 / LATTICE_STEP_MM,) * 3)
    if config.posterior_fossa_spread > 0:
        texture += posterior_fossa_texture(person_rng.spawn(1)[0], config.posterior_fossa_spread)
    tissues = draw_tissues(person_rng, visit.site.field_strength_t)
    disease_rng = random_stream(config.seed, visit.person, Purpose.DISEASE)
    damage = draw_old_damage(disease_rng, model) if config.distractors else ()
    scan_rng = random_stream(config.seed, visit.number, Purpose.SCAN)
    protocol = draw_protocol(scan_rng, visit.site, config)
    pose = draw_pose(scan_rng, person)
    distortion = draw_distortion(scan_rng, visit.site.field_strength_t)
    if config.near_air == "none":
        distortion = Distortion((), ())
    elif config.near_air == "bands":
        distortion = with_bands(distortion, random_stream(config.seed, visit.number, Purpose.SCAN, 2))
    head = place_head(protocol, pose, person, model, distortion)
    fractions = tissue_fractions(head.brain_mm, head.brain_hull_mm, model, person)
    tissue = with_old_damage(healthy_tissue(head.brain_mm, fractions, texture), head.brain_mm, damage)
    nx, ny, n_slices, _ = head.shape
    spacing = (protocol.fov_mm[0] / nx, protocol.fov_mm[1] / ny, protocol.spacing_mm)
    bias = receive_bias(scan_rng, (nx, ny, n_slices), spacing)
    return Patient(
        visit=visit,
        protocol=protocol,
        head=head,
        tissue=tissue,
        tissues=tissues,
        bias=bias if config.vary_appearance else np.ones_like(bias),
        old_damage=tuple(lesion.name for lesion in damage),
        atlas_share=pose.atlas_share,
        noise=_white_matter_b1000(tissues, protocol) / protocol.snr,
    )


def find_stroke(patient: Patient, model: HeadModel, config: SimulateConfig) -> SeenStroke:
    """The person's stroke: the first drawn that their first scan shows well enough."""
    visit = patient.visit
    if visit.is_follow_up:
        first = lay_down(plan_visit(visit.person, config), model, config)
        return _draw_stroke(patient, model, config, find_stroke(first, model, config).attempt)
    for attempt in range(MAX_ATTEMPTS):
        stroke = _draw_stroke(patient, model, config, attempt)
        voxels = int(stroke.roi.sum())
        large_enough = voxels >= MINIMUM_VOXELS and voxels * patient.protocol.voxel_volume_ml >= MINIMUM_ML
        clear = stroke.contrast_to_noise >= config.minimum_contrast_to_noise
        if large_enough and clear and stroke.brightening >= config.minimum_brightening:
            return stroke
    raise FvvError(f"no visible stroke in {MAX_ATTEMPTS} draws", patient=visit.participant, hint="use another seed")


def _draw_stroke(patient: Patient, model: HeadModel, config: SimulateConfig, attempt: int) -> SeenStroke:
    rng = random_stream(config.seed, patient.visit.person, Purpose.STROKE, attempt)
    pattern, volume_ml = draw_pattern_and_volume(rng, config.large_lesion_share)
    pace = pace_of_size(volume_ml) if config.pace_by_size else 1.0
    appearance = draw_appearance(rng, config.t2_amplitude_range, pace=pace)
    depth = stroke_depth(rng, pattern, volume_ml, model, atlas_share=patient.atlas_share)
    head, onset_h = patient.head, patient.visit.onset_h or 0.0
    at_points = apply_stroke(patient.tissue, head.brain_mm, depth, appearance=appearance, onset_h=onset_h, rng=rng)
    # Never the rim of CSF beyond the brain.
    roi = on_image_grid(patient, at_points.share * (head.brain_hull_mm < 0)) > 0.5
    before = brain_signals(at_points.before, patient.tissues, patient.protocol).b1000
    after = brain_signals(at_points.after, patient.tissues, patient.protocol).b1000
    normal, excess = (np.zeros(at_points.share.shape, dtype=np.float32) for _ in range(2))
    normal[at_points.touched], excess[at_points.touched] = before, after - before
    usual, rise = (on_image_grid(patient, part * head.brain_pile_up, biased=True) for part in (normal, excess))
    if config.reader_threshold > 0 and roi.any():
        roi &= rise > config.reader_threshold * np.median(rise[roi])
    contrast = float(rise[roi].mean() / patient.noise) if roi.any() else 0.0
    brightening = float(1.0 + rise[roi].mean() / usual[roi].mean()) if roi.any() else 1.0
    return SeenStroke(pattern.name, attempt, at_points, roi, contrast, brightening)


def on_image_grid(patient: Patient, values: FloatArray, *, biased: bool = False) -> FloatArray:
    """Brain-point values as a noise-free image (i, j, k) on the reconstructed grid."""
    slices = patient.head.slices(patient.head.brain_index, values)
    if biased:
        slices *= patient.bias
    matrices = [area_resampling(n, m) for n, m in zip(patient.protocol.matrix, slices.shape[:2], strict=True)]
    return apply_separably(slices, *matrices)


def _white_matter_b1000(tissues: TissueSet, protocol: Protocol) -> float:
    white = tissues.white_matter
    b0 = spin_echo(white.proton_density, white.t1_ms, white.t2_ms, te_ms=protocol.te_ms, tr_ms=protocol.tr_ms)
    return float(diffusion_weighted(b0, white.adc_mm2_s, b_s_mm2=protocol.b_s_mm2))
