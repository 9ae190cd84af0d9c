"""Settings of the simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from fvv.config.base import Settings
from fvv.config.shared import ComputeConfig


class SimulateConfig(Settings):
    """A simulated cohort."""

    cases: int = Field(default=24, ge=1)
    """Number of examinations."""
    seed: int = Field(default=0, ge=0)
    """Seed of the cohort: the same seed gives the same files, byte for byte."""
    only: int | None = Field(default=None, ge=1)
    """Simulate only this case, counted from 1; its files are those of the whole cohort."""
    sites: int = Field(default=3, ge=1, le=3)
    """Number of hospitals, each with its own scanner."""
    stroke_free_share: float = Field(default=0.12, ge=0, le=1)
    """Share of persons without a stroke."""
    follow_up_share: float = Field(default=0.1, ge=0, lt=1)
    """Probability that a case is the second examination of the previous person."""
    onset_range_h: tuple[float, float] = (0.7, 72.0)
    """Hours from onset to a person's first examination, log-uniform."""
    visible_ratio: float = Field(default=1.15, gt=1)
    """FLAIR signal-intensity ratio (lesion/normal) above which a voxel is FLAIR-visible, as in MR WITNESS (Schwamm et
    al. 2018, doi 10.1002/ana.25235)."""
    mismatch_fraction: float = Field(default=0.2, gt=0, lt=1)
    """The simulated reader sees a mismatch where less than this share of the lesion is FLAIR-visible."""
    reader_noise: float = Field(default=0.04, ge=0)
    """Standard deviation of the reader's error about that share (chosen here)."""
    minimum_contrast_to_noise: float = Field(default=2.0, ge=0)
    """A stroke with less contrast to noise on b1000 is replaced by another random one: no reader would outline it."""
    minimum_brightening: float = Field(default=1.2, ge=1)
    """Strokes whose mean b1000 is below this multiple of normal tissue are replaced, too. 1.2 is what grey matter
    (ADC 0.82) gains at 0.62 x 10-3 mm2/s, the usual threshold of an infarct's core (Purushotham et al. 2015, doi
    10.1111/ijs.12068)."""
    skull_stripped_share: float = Field(default=0.2, ge=0, le=1)
    """Share of cases whose b0 and b1000 come without the head around the brain."""
    large_lesion_share: float | None = Field(default=None, ge=0, le=1)
    """Share of strokes over 80 mL (default: what the stroke patterns give, about 0.16)."""
    posterior_fossa_share: float | None = Field(default=None, ge=0, le=1)
    """Share of the computed shapes that lie in cerebellum and brainstem alone (default: what the stroke patterns give,
    about 0.1); large_lesion_share applies to the others."""
    t2_amplitude_range: tuple[float, float] = (0.25, 1.4)
    """Relative T2 gain of a stroke long after onset, log-uniform; more than 1.4 makes late lesions as bright as the
    brightest seen in practice."""
    adc_factor_range: tuple[float, float] = (0.4, 0.72)
    """ADC of a stroke's core over normal, in three of four strokes; in the fourth 0.65 to 0.85."""
    pace_by_size: bool = True
    """Let T2 rise sooner and faster in larger strokes, as the sizes of mismatches suggest; false: the same in all."""
    lesions: Path | None = None
    """Folder of masks of real strokes in MNI space (NIfTI, 0 and 1, one stroke each), from which a share of the
    simulated strokes takes position, shape and size (default: all shapes are computed)."""
    lesion_files: tuple[str, ...] = ()
    """Names of the mask files to use, such as those that are not kept for testing (default: all of the folder)."""
    lesion_mask_share: float = Field(default=0.5, ge=0, le=1)
    """Share of strokes that take their shape from the masks, where a folder of masks is given."""
    heads: Path | None = None
    """Folder of real healthy heads, one folder each with b0 and b1000 (and mask, where there is one): strokes are
    simulated in them (default: heads are simulated). With participants.tsv, several may be of one person."""
    punctate_share: float = Field(default=0.0, ge=0, le=1)
    """Share of the computed shapes that are lacunes in brainstem and basal ganglia, punctate cortical infarcts and
    showers of them, 0.02 to 1.5 mL, in addition to those of the usual patterns."""
    minimum_stroke_ml: float = Field(default=0.1, gt=0)
    """A stroke smaller than this on the image (mL), or of fewer than 3 voxels, is replaced by another random one."""
    reader_threshold: float = Field(default=0.0, ge=0, lt=1)
    """Voxels of the infarct whose b1000 excess is less than this share of the lesion's median are left out of the
    stroke ROI, such as sulci, and so are components that nobody would outline by themselves: of fewer than 3 voxels, or
    below minimum_contrast_to_noise or minimum_brightening. 0: the whole infarct; 0.3 to 0.5: an outline near half
    height."""
    distractors: bool = True
    """Add white-matter hyperintensities, old infarcts and T2 shine-through, which only look like a stroke."""
    anatomies: Path | None = None
    """Folder of label maps of whole heads or brains, with FreeSurfer's numbers as SynthSeg writes them: every person
    has the anatomy of one of them, deformed (default: the average head of the package)."""
    anatomy_files: tuple[str, ...] = ()
    """Names of the label maps to use, so that others are kept for testing (default: all of the folder)."""
    near_air: Literal["none", "smooth", "bands", "physics"] = "smooth"
    """Distortion near air: none; smooth bumps of the field at fixed places; bands: the same bumps moved and resized,
    with some dozens of narrow ones, whose bright bands and voids differ at every examination; or physics: the field
    that the head's own air and bone make in the magnet, shimmed, seen through a realistic echo train."""
    receive_coil: Literal["smooth", "array"] = "smooth"
    """Shading and noise of the receive coil: smooth shading, the same noise everywhere; or array: of 10 to 32 elements
    around the head, with the noise that parallel imaging amplifies in the middle of the head."""
    posterior_fossa_spread: float = Field(default=0.0, ge=0, le=0.3)
    """Relative standard deviation between persons of T2 in cerebellum and brainstem; half of it within them, folium by
    folium. 0: as in the rest of the brain (chosen here, useful to 0.15)."""
    vary_appearance: bool = True
    """Vary timings, b-value, SNR, coil bias, blur, ghost, gamma and scale between examinations; false: one protocol."""
    oblique_share: float = Field(default=0.5, ge=0, le=1)
    """Share of examinations whose slices are tilted against the magnet."""
    thin_slice_share: float = Field(default=0.0, ge=0, le=1)
    """Share of examinations with slices of 2 to 3 mm, up to 80 of them."""
    isotropic_share: float = Field(default=0.0, ge=0, le=1)
    """Share of examinations with isotropic voxels of 2 to 3.5 mm, as in research protocols."""
    write_mask: bool = True
    """Write mask.nii.gz, the simulated brain, from which the network learns the brain."""
    compute: ComputeConfig = ComputeConfig()
