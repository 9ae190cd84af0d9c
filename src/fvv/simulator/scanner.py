"""Scanners and the protocols that hospitals run on them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fvv.arrays import Affine
from fvv.config import SimulateConfig
from fvv.simulator.space import log_uniform, rotation_matrix
from fvv.simulator.tissue import nominal_tissues, nulling_inversion_time_ms


@dataclass(frozen=True, slots=True)
class Site:
    """One hospital's habits: ranges are uniform, SNR log-uniform."""

    name: str
    field_strength_t: float
    matrices: tuple[tuple[int, int], ...]  # reconstructed matrices (i, j) in use
    acquired_share: tuple[float, float]  # acquired over reconstructed matrix; the rest is zero-filled
    fov_mm: tuple[float, float]
    spacing_mm: tuple[float, float]  # slice thickness and gap together
    te_ms: tuple[float, float]
    tr_ms: tuple[float, float]
    snr: tuple[float, float]
    left_to_right: bool  # True if i grows to the patient's right (stored RAS), False for the radiological LAS


SITES = (
    Site(
        name="site_a",
        field_strength_t=3.0,
        matrices=((256, 256), (240, 240), (192, 192)),
        acquired_share=(0.5, 0.75),
        fov_mm=(215.0, 245.0),
        spacing_mm=(4.0, 5.5),
        te_ms=(62.0, 100.0),
        tr_ms=(4500.0, 9000.0),
        snr=(14.0, 40.0),
        left_to_right=True,
    ),
    Site(
        name="site_b",
        field_strength_t=1.5,
        matrices=((128, 128), (256, 256), (144, 192), (112, 112), (192, 192)),
        acquired_share=(0.6, 1.0),
        fov_mm=(205.0, 240.0),
        spacing_mm=(5.0, 6.0),
        te_ms=(80.0, 110.0),
        tr_ms=(3000.0, 7000.0),
        snr=(10.0, 28.0),
        left_to_right=False,
    ),
    Site(
        name="site_c",
        field_strength_t=3.0,
        matrices=((224, 224), (320, 260), (192, 240), (320, 320), (160, 192)),
        acquired_share=(0.5, 0.8),
        fov_mm=(220.0, 255.0),
        spacing_mm=(3.0, 5.0),
        te_ms=(65.0, 100.0),
        tr_ms=(5000.0, 11000.0),
        snr=(12.0, 32.0),
        left_to_right=True,
    ),
)
"""Three invented hospitals; together they cover the matrices, slices and timings of clinical diffusion protocols."""


WHOLE_HEAD_MM = 150.0
"""Height of a stack of slices that covers the brain."""
HZ_PER_PPM_AND_TESLA = 42.577
"""Precession of protons: 42.577 MHz/T."""
FAT_PPM = -3.4
"""Fat (its main resonance) against water."""


@dataclass(frozen=True, slots=True)
class EchoTrain:
    """How fast an examination's k-space is measured along the phase axis, on which its distortion depends.

    Attributes:
        echo_spacing_ms: from one line to the next.
        acceleration: of parallel imaging: every line, every second or every third is measured.
        sign: of the phase-encoding direction, +1 or -1.
        off_echo_ms: time from the spin echo to the middle of k-space.
    """

    echo_spacing_ms: float
    acceleration: int
    sign: int
    off_echo_ms: float

    def mm_per_hz(self, fov_mm: float) -> float:
        """Displacement along the phase axis, over a field of view of `fov_mm`; signed."""
        return self.sign * fov_mm * self.echo_spacing_ms / 1000.0 / self.acceleration

    def bandwidth_hz(self, lines: int) -> float:
        """Bandwidth per pixel along the phase axis with this many lines in k-space."""
        return 1000.0 * self.acceleration / (self.echo_spacing_ms * lines)


@dataclass(frozen=True, slots=True)
class Protocol:
    """One examination's settings."""

    field_strength_t: float
    matrix: tuple[int, int]  # reconstructed voxels along i, j
    acquired: tuple[int, int]  # measured k-space samples along i, j
    fov_mm: tuple[float, float]  # edges of the slice along i, j
    n_slices: int
    thickness_mm: float
    spacing_mm: float
    te_ms: float  # of the diffusion images, as TR and b
    tr_ms: float
    b_s_mm2: float
    flair_te_ms: float
    flair_tr_ms: float
    flair_ti_ms: float
    snr: float  # mean white-matter signal of b1000 over the noise of one image channel
    oblique_rad: tuple[float, float, float]  # rotation of the slice stack against the magnet
    left_to_right: bool  # True if i grows to the patient's right
    echo_train: EchoTrain | None = None  # None: distortion does not follow from it

    @property
    def affine(self) -> Affine:
        """(4, 4), voxel to RAS+ mm, of the stored image; the stack's centre is near the magnet's."""
        nx, ny = self.matrix
        spacing = np.array([self.fov_mm[0] / nx, self.fov_mm[1] / ny, self.spacing_mm])
        first = np.array([-self.fov_mm[0] / 2, -self.fov_mm[1] / 2, -self.spacing_mm * (self.n_slices - 1) / 2])
        affine = np.eye(4)
        affine[:3, :3] = np.diag(spacing)
        affine[:3, 3] = first
        if not self.left_to_right:
            affine[0, 0] = -spacing[0]
            affine[0, 3] = first[0] + spacing[0] * (nx - 1)
        turned = np.eye(4)
        turned[:3, :3] = rotation_matrix(self.oblique_rad)
        return turned @ affine

    @property
    def voxel_volume_ml(self) -> float:
        """Volume of one reconstructed voxel."""
        return self.fov_mm[0] / self.matrix[0] * self.fov_mm[1] / self.matrix[1] * self.spacing_mm / 1000.0


def draw_protocol(rng: np.random.Generator, site: Site, config: SimulateConfig) -> Protocol:
    """One examination at a site: settings differ a little from patient to patient, as they do in practice.

    Whatever the settings, `rng` is advanced alike.
    """
    protocol = _usual_protocol(rng, site, config.oblique_share)
    thin = rng.spawn(1)[0]
    if thin.random() < config.thin_slice_share:
        spacing = float(thin.uniform(2.0, 3.0))
        n_slices = min(round(thin.uniform(128.0, 158.0) / spacing), 80)
        protocol = replace(protocol, n_slices=n_slices, spacing_mm=spacing, thickness_mm=spacing)
    if config.isotropic_share and thin.random() < config.isotropic_share:
        protocol = _isotropic(protocol, edge_mm=float(thin.uniform(2.0, 3.5)))
    if not config.vary_appearance:
        acquired = _acquired(protocol.matrix, 0.75)
        protocol = replace(protocol, acquired=acquired, te_ms=80.0, tr_ms=6000.0, b_s_mm2=1000.0, snr=20.0)
    return protocol


def draw_echo_train(rng: np.random.Generator, field_strength_t: float) -> EchoTrain:
    """The echo train of one examination.

    Echo spacings of 0.5 to 0.9 ms; every second or third line at 3 T, every or every second one at 1.5 T: with 128
    lines, 9 to 47 Hz per pixel, as in clinical protocols. Shares and the time off the echo were chosen here.
    """
    factors, shares = ((2, 3), (0.75, 0.25)) if field_strength_t > 2 else ((1, 2), (0.35, 0.65))
    return EchoTrain(
        echo_spacing_ms=float(rng.uniform(0.5, 0.9)),
        acceleration=int(rng.choice(factors, p=shares)),
        sign=1 if rng.random() < 0.5 else -1,
        off_echo_ms=float(rng.uniform(-2.0, 2.0)),
    )


def _usual_protocol(rng: np.random.Generator, site: Site, oblique_share: float) -> Protocol:
    matrix = site.matrices[rng.integers(len(site.matrices))]
    fov_y = rng.uniform(*site.fov_mm)
    # A rectangular matrix comes with square voxels, but never narrower than a head.
    fov_x = max(fov_y * matrix[0] / matrix[1], 195.0) if matrix[0] < matrix[1] else fov_y
    fov_y = fov_y if matrix[0] <= matrix[1] else max(fov_x * matrix[1] / matrix[0], 215.0)
    share = rng.uniform(*site.acquired_share)
    spacing = rng.uniform(*site.spacing_mm)
    if rng.random() < 0.5:
        spacing = float(round(2 * spacing) / 2)
    flair_tr = rng.uniform(8000.0, 10000.0)
    csf_t1 = nominal_tissues(site.field_strength_t).csf.t1_ms
    oblique = np.deg2rad(rng.normal(0.0, (5.0, 2.0, 2.0))) if rng.random() < oblique_share else np.zeros(3)
    return Protocol(
        field_strength_t=site.field_strength_t,
        matrix=matrix,
        acquired=_acquired(matrix, share),
        fov_mm=(float(fov_x), float(fov_y)),
        n_slices=int(np.clip(round(rng.uniform(128.0, 158.0) / spacing), 20, 36)),
        thickness_mm=float(spacing * rng.uniform(0.8, 1.0)),
        spacing_mm=float(spacing),
        te_ms=float(rng.uniform(*site.te_ms)),
        tr_ms=float(rng.uniform(*site.tr_ms)),
        b_s_mm2=float(rng.choice([1000.0, rng.uniform(900.0, 1100.0)], p=[0.7, 0.3])),
        flair_te_ms=float(rng.uniform(95.0, 140.0)),
        flair_tr_ms=float(flair_tr),
        flair_ti_ms=nulling_inversion_time_ms(csf_t1, flair_tr),
        snr=log_uniform(rng, *site.snr),
        oblique_rad=tuple(oblique.tolist()),
        left_to_right=site.left_to_right,
    )


def _isotropic(protocol: Protocol, edge_mm: float) -> Protocol:
    """The protocol with cubic voxels, all of them measured, over the same field of view and the whole head."""
    x, y = (2 * round(edge / edge_mm / 2) for edge in protocol.fov_mm)
    return replace(
        protocol,
        matrix=(x, y),
        acquired=(x, y),
        fov_mm=(x * edge_mm, y * edge_mm),
        n_slices=min(round(WHOLE_HEAD_MM / edge_mm), 80),
        spacing_mm=edge_mm,
        thickness_mm=edge_mm,
    )


def _acquired(matrix: tuple[int, int], share: float) -> tuple[int, int]:
    """K-space samples along i, j: even, and at least 96 where the matrix has them."""
    x, y = (max(2 * round(n * share / 2), min(96, n)) for n in matrix)
    return x, y
