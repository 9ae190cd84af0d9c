"""A person laid in a scanner, and the stroke that this scanner shows of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from fvv.arrays import BoolArray, FloatArray
from fvv.config import SimulateConfig
from fvv.errors import FvvError
from fvv.simulator.acquisition import receive_bias
from fvv.simulator.anatomy import HeadModel, PersonShape, deform, draw_person_shape, tissue_fractions
from fvv.simulator.brain import (
    BrainTissue,
    apply_stroke,
    brain_signals,
    draw_person_texture,
    healthy_tissue,
    individual_tissue,
    posterior_fossa_texture,
    signals,
    with_old_damage,
)
from fvv.simulator.coils import draw_coil_array, on_grid, shading_and_noise
from fvv.simulator.field import Field, PhysicalField, draw_field, physical_field
from fvv.simulator.lesion_masks import list_masks, mask_lesion
from fvv.simulator.lesions import Lesion, draw_lesion, draw_old_damage
from fvv.simulator.scanner import Protocol, draw_echo_train, draw_protocol
from fvv.simulator.space import apply_separably, area_resampling, lattice_noise, linear_upsampling, rotation_matrix
from fvv.simulator.susceptibility import head_field
from fvv.simulator.tissue import TissueSet, draw_tissues
from fvv.simulator.visits import Purpose, Visit, plan_visit, random_stream

FINE_VOXEL_MM = 1.1
"""In-plane edge of the grid on which signal is computed: as fine as the atlas resolves, finer than any EPI measures."""
SUBSLICES = 3
"""Points through each slice's thickness: with 3 to 6 mm slices one every 1 to 2 mm."""
ATLAS_CENTRE_MM = (0.0, -18.0, 2.0)
"""Point of the average head that is laid in the middle of the magnet."""
MAX_ATTEMPTS = 25
"""Strokes tried before giving up on one that can be seen; with the default settings few are rejected."""
MINIMUM_VOXELS = 3
"""A reader does not outline a stroke of fewer voxels."""


class Points(NamedTuple):
    """Some points of the fine grid (x, y, slice, subslice)."""

    where: NDArray[np.intp]  # (n,) in the flattened grid
    mm: FloatArray  # (3, n) deformed atlas positions
    pile_up: FloatArray  # (n,) intensity factor of the distortion


@dataclass(frozen=True, slots=True)
class PlacedHead:
    """Where the head's points are on the fine grid."""

    shape: tuple[int, int, int, int]
    brain: Points
    brain_hull_mm: FloatArray  # (n,) distance to the brain's surface
    surroundings: Points

    def slices(self, points: Points, values: FloatArray) -> FloatArray:
        """Put point values on the grid and average through each slice: float32 (x, y, slice)."""
        subslices = self.shape[3]
        sums = np.bincount(points.where // subslices, weights=values, minlength=int(np.prod(self.shape[:3])))
        return np.asarray(sums.reshape(self.shape[:3]) / subslices, dtype=np.float32)


@dataclass(frozen=True, slots=True)
class Patient:
    """A visit's head, laid in its scanner: all but the stroke."""

    visit: Visit
    protocol: Protocol
    head: PlacedHead
    tissue: BrainTissue
    tissues: TissueSet
    anatomy: str | None  # label map of the head, None: the average head
    bias: FloatArray  # coil sensitivity on the fine slices
    old_damage: tuple[str, ...]
    atlas_share: float  # atlas volume over the person's volume
    noise: float  # deviation of b1000's noise in one channel
    noise_map: FloatArray | None  # (i, j, k) its factor by place; None: the same everywhere

    def brain_signals(self, tissue: BrainTissue) -> FloatArray:
        """Noise-free b0, b1000 and FLAIR of brain points, (3, n)."""
        return brain_signals(tissue, self.tissues, self.protocol)

    def image(self, values: FloatArray, *, biased: bool = False) -> FloatArray:
        """Values at the brain's points as a noise-free image (i, j, k) on the reconstructed grid."""
        slices = self.head.slices(self.head.brain, values)
        if biased:
            slices *= self.bias
        matrices = [area_resampling(n, m) for n, m in zip(self.protocol.matrix, slices.shape[:2], strict=True)]
        return apply_separably(slices, *matrices)


@dataclass(frozen=True, slots=True)
class SeenStroke:
    """A stroke seen by one scanner; `before` and `after` ischaemia: noise-free signals (3, n) of the touched points."""

    pattern: str
    mask: str | None  # name of the mask file that gave its shape
    attempt: int
    touched: BoolArray  # over all brain points
    before: FloatArray
    after: FloatArray
    roi: BoolArray  # (i, j, k) on the image grid, as a reader outlines it
    contrast_to_noise: float
    brightening: float


def lay_down(visit: Visit, model: HeadModel, config: SimulateConfig) -> Patient:
    """The person (the same at every visit), their old damage, the protocol and how they lie in the scanner."""
    person_rng = random_stream(config.seed, visit.person, Purpose.PERSON)
    person = draw_person_shape(person_rng, individual=model.regions is not None)
    texture = lattice_noise(person_rng, 6.0)
    if config.posterior_fossa_spread > 0:
        texture += posterior_fossa_texture(person_rng.spawn(1)[0], config.posterior_fossa_spread)
    tissues = draw_tissues(person_rng, visit.site.field_strength_t)
    disease_rng = random_stream(config.seed, visit.person, Purpose.DISEASE)
    damage = draw_old_damage(disease_rng, model) if config.distractors else ()

    scan_rng, bands_rng = (random_stream(config.seed, visit.number, Purpose.SCAN, part) for part in (0, 2))
    protocol = draw_protocol(scan_rng, visit.site, config)
    pose = draw_pose(scan_rng, person)
    strength_t = visit.site.field_strength_t
    field: Field | PhysicalField = draw_field(
        scan_rng, bands_rng, field_strength_t=strength_t, near_air=config.near_air
    )
    if config.near_air == "physics" or config.receive_coil == "array":
        train_rng = random_stream(config.seed, visit.number, Purpose.SCAN, 3)
        protocol = replace(protocol, echo_train=draw_echo_train(train_rng, strength_t))
    if config.near_air == "physics":
        field = physical_field(head_field(model, person, magnet_axis(protocol, pose, person)), protocol, pose[0])
    head = place_head(protocol, pose, person, model, field)
    nx, ny, n_slices, _ = head.shape
    spacing_mm = (protocol.fov_mm[0] / nx, protocol.fov_mm[1] / ny, protocol.spacing_mm)
    bias, noise_map = receive_bias(scan_rng, (nx, ny, n_slices), spacing_mm), None
    if config.receive_coil == "array":
        coil_rng = random_stream(config.seed, visit.number, Purpose.SCAN, 4)
        shading, noise = shading_and_noise(draw_coil_array(coil_rng), protocol, coil_rng.uniform(0.2, 1.0))
        bias, noise_map = on_grid(shading, (nx, ny)), on_grid(noise, protocol.matrix)

    fractions = tissue_fractions(head.brain.mm, head.brain_hull_mm, model, person)
    if model.regions is None:
        healthy = healthy_tissue(head.brain.mm, fractions, texture)
    else:
        own = draw_person_texture(random_stream(config.seed, visit.person, Purpose.ANATOMY, 1))
        healthy = individual_tissue(head.brain.mm, fractions, texture, model.regions, own)
    tissue = with_old_damage(healthy, head.brain.mm, damage)
    white_matter_b1000 = float(signals(*tissues.white_matter, protocol)[1])
    return Patient(
        visit=visit,
        protocol=protocol,
        head=head,
        tissue=tissue,
        tissues=tissues,
        anatomy=model.name,
        bias=bias if config.vary_appearance else np.ones_like(bias),
        old_damage=tuple(lesion.name for lesion in damage),
        atlas_share=float(np.linalg.det(pose[0])),
        noise=white_matter_b1000 / protocol.snr,
        noise_map=noise_map,
    )


def draw_pose(rng: np.random.Generator, person: PersonShape) -> tuple[FloatArray, FloatArray]:
    """How the person lies: atlas = turn @ image + offset, in mm; turn (3, 3) holds rotation and size.

    A few degrees off each time, slices tilted like the orbitomeatal line or like AC-PC.
    """
    angles = np.asarray(person.tilt_rad) + np.deg2rad(rng.normal(0.0, (3.0, 3.0, 4.0)))
    angles[0] += np.deg2rad(rng.choice([0.0, rng.uniform(-6.0, 14.0)]))
    turn = np.diag(1.0 / np.asarray(person.scale)) @ rotation_matrix((angles[0], angles[1], angles[2]))
    return turn, np.asarray(ATLAS_CENTRE_MM) + rng.normal(0.0, (3.0, 5.0, 3.0))


def magnet_axis(protocol: Protocol, pose: tuple[FloatArray, FloatArray], person: PersonShape) -> FloatArray:
    """The direction of the magnet's field, the z axis of world coordinates, in the frame of the person's head.

    Returns:
        (3,) unit vector along the atlas axes, in real millimetres.
    """
    along = rotation_matrix(protocol.oblique_rad).T[:, 2]
    return np.asarray(np.asarray(person.scale) * (pose[0] @ along))


def place_head(
    protocol: Protocol,
    pose: tuple[FloatArray, FloatArray],
    person: PersonShape,
    model: HeadModel,
    field: Field | PhysicalField,
) -> PlacedHead:
    """Find the deformed, distorted atlas position of every fine point that lies in the head.

    Deformation and distortion are computed at every `field.step`-th fine voxel in the plane.
    """
    nx, ny = (2 * round(edge / FINE_VOXEL_MM / 2) for edge in protocol.fov_mm)
    turn, offset_mm = (part.astype(np.float32) for part in pose)
    rigid = np.tensordot(turn, _coarse_positions(protocol, (nx, ny), field.step), axes=1)
    rigid += offset_mm[:, None, None, None]
    shift, pile_up = field.at(rigid, turn[:, 1])
    rigid += turn[:, 1][:, None, None, None] * shift
    points = deform(rigid, model, person)
    up = (linear_upsampling(nx, field.step), linear_upsampling(ny, field.step))
    hull = apply_separably(model.hull_distance_mm.sample(points, outside=200.0), *up).reshape(-1)
    depth = apply_separably(model.surroundings.outline_mm.sample(points, outside=-50.0), *up).reshape(-1)
    near_brain = np.flatnonzero(hull < person.rim_mm + 3.0)
    outer = np.flatnonzero((hull > 0.0) & (depth > -2.0))
    fine = np.stack([apply_separably(component, *up).reshape(-1) for component in points])
    factor = apply_separably(pile_up, *up).reshape(-1)
    exact = model.hull_distance_mm.sample(fine[:, near_brain], outside=200.0)
    in_brain = exact < person.rim_mm
    brain = near_brain[in_brain]
    return PlacedHead(
        shape=(nx, ny, protocol.n_slices, SUBSLICES),
        brain=Points(brain, fine[:, brain], factor[brain]),
        brain_hull_mm=exact[in_brain],
        surroundings=Points(outer, fine[:, outer], factor[outer]),
    )


def _coarse_positions(protocol: Protocol, size: tuple[int, int], step: int) -> FloatArray:
    """Image positions (3, cx, cy, slices * subslices) of every `step`-th point of the fine grid."""
    x, y = (
        (np.arange(linear_upsampling(n, step).shape[1]) * step / n - 0.5) * edge
        for n, edge in zip(size, protocol.fov_mm, strict=True)
    )
    middle = (np.arange(protocol.n_slices) - (protocol.n_slices - 1) / 2) * protocol.spacing_mm
    within = ((np.arange(SUBSLICES) + 0.5) / SUBSLICES - 0.5) * protocol.thickness_mm
    z = (middle[:, None] + within[None, :]).reshape(-1)
    return np.stack(np.meshgrid(x, y, z, indexing="ij")).astype(np.float32)


def find_stroke(patient: Patient, model: HeadModel, config: SimulateConfig) -> SeenStroke:
    """The person's stroke: the first that their first scan shows well enough.

    Raises:
        FvvError: none does in `MAX_ATTEMPTS`.
    """
    visit = patient.visit
    if visit.is_follow_up:
        first = lay_down(plan_visit(visit.person, config), model, config)
        return _stroke(patient, model, config, find_stroke(first, model, config).attempt)
    for attempt in range(MAX_ATTEMPTS):
        stroke = _stroke(patient, model, config, attempt)
        voxel_ml = patient.protocol.voxel_volume_ml
        if would_be_outlined(stroke.roi, voxel_ml, stroke.contrast_to_noise, stroke.brightening, config):
            return stroke
    raise FvvError(
        f"no visible stroke in {MAX_ATTEMPTS} attempts", examination_id=visit.participant, hint="use another seed"
    )


def would_be_outlined(
    roi: BoolArray, voxel_ml: float, contrast_to_noise: float, brightening: float, config: SimulateConfig
) -> bool:
    """Whether a stroke is large, clear and bright enough for a reader to outline it."""
    voxels = int(roi.sum())
    large = voxels >= MINIMUM_VOXELS and voxels * voxel_ml >= config.minimum_stroke_ml
    clear = contrast_to_noise >= config.minimum_contrast_to_noise
    return large and clear and brightening >= config.minimum_brightening


def outlined(roi: BoolArray, rise: FloatArray, usual: FloatArray, noise: float, config: SimulateConfig) -> BoolArray:
    """What a reader outlines of a stroke: where it is bright beside the rest of it, and of that the visible components.

    Each component must be as clear as a whole stroke: a satellite that is lost in noise or hardly brighter than normal
    tissue is in the images, but nobody outlines it. Where no component is clear, all stay, and the stroke as a whole is
    judged by `would_be_outlined`.

    Args:
        roi: (i, j, k) bool, voxels that are mostly stroke.
        rise: (i, j, k) what the stroke adds to b1000.
        usual: (i, j, k) b1000 of the same tissue without it.
        noise: standard deviation of b1000's noise.
        config: the reader's threshold (0: all voxels stay), and what is clear.
    """
    if config.reader_threshold == 0 or not roi.any():
        return roi
    seen = roi & (rise > config.reader_threshold * np.median(rise[roi]))
    labels, n = ndimage.label(seen, structure=np.ones((3, 3, 3)))
    sizes, added, normal = (
        np.bincount(labels.ravel(), weights, minlength=n + 1) for weights in (None, rise.ravel(), usual.ravel())
    )
    clear = (sizes >= MINIMUM_VOXELS) & (added >= config.minimum_contrast_to_noise * noise * sizes)
    clear &= added >= (config.minimum_brightening - 1.0) * normal
    clear[0] = False
    return clear[labels] if clear.any() else seen


def choose_lesion(
    rng: np.random.Generator, model: HeadModel, config: SimulateConfig, *, person: int, attempt: int, atlas_share: float
) -> Lesion:
    """A stroke of the kinds that the settings ask for.

    Args:
        rng: of the stroke.
        model: the average head.
        config: shares of masks and punctate strokes.
        person: number of the person.
        attempt: which of the strokes tried.
        atlas_share: atlas volume over the person's volume.

    Raises:
        InputError: a mask cannot be used.
    """
    shapes = random_stream(config.seed, person, Purpose.SHAPE, attempt)
    from_mask, punctate = shapes.random(2) < (config.lesion_mask_share, config.punctate_share)
    if config.lesions is not None and from_mask:
        files = list_masks(config.lesions, config.lesion_files)
        return mask_lesion(shapes, rng, files, model, config, atlas_share=atlas_share)
    return draw_lesion(rng, model, config, atlas_share=atlas_share, punctate=bool(punctate))


def _stroke(patient: Patient, model: HeadModel, config: SimulateConfig, attempt: int) -> SeenStroke:
    rng = random_stream(config.seed, patient.visit.person, Purpose.STROKE, attempt)
    person, atlas_share = patient.visit.person, patient.atlas_share
    lesion = choose_lesion(rng, model, config, person=person, attempt=attempt, atlas_share=atlas_share)
    head, onset_h = patient.head, patient.visit.onset_h or 0.0
    at_points = apply_stroke(patient.tissue, head.brain.mm, lesion, onset_h=onset_h, rng=rng)
    before, after = patient.brain_signals(at_points.before), patient.brain_signals(at_points.after)
    # Never the rim of CSF beyond the brain.
    roi = patient.image(at_points.share * (head.brain_hull_mm < 0)) > 0.5
    normal, excess = np.zeros((2, *at_points.share.shape), dtype=np.float32)
    normal[at_points.touched], excess[at_points.touched] = before[1], after[1] - before[1]
    usual, rise = (patient.image(part * head.brain.pile_up, biased=True) for part in (normal, excess))
    roi = outlined(roi, rise, usual, patient.noise, config)
    contrast = float(rise[roi].mean() / patient.noise) if roi.any() else 0.0
    brightening = float(1.0 + rise[roi].mean() / usual[roi].mean()) if roi.any() else 1.0
    return SeenStroke(
        pattern=lesion.pattern,
        mask=lesion.mask,
        attempt=attempt,
        touched=at_points.touched,
        before=before,
        after=after,
        roi=roi,
        contrast_to_noise=contrast,
        brightening=brightening,
    )
