"""simulation.json: what a simulated examination was made from, and the reference behind its images."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import ConfigDict, Field, field_serializer

from fvv.config import SimulateConfig
from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import Stored


def case_settings(config: SimulateConfig) -> dict[str, Any]:
    """Settings on which a case depends, beside its number; JSON types.

    Of input folders the content counts, not where they lie: `Simulation.sources` has it.
    """
    inputs = {"anatomies", "anatomy_files", "lesions", "lesion_files", "heads"}
    return config.model_dump(mode="json", exclude={"cases", "only", "compute"} | inputs)


class CaseRecord(Stored):
    """What is known of a simulated examination."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    participant_id: str
    patient_id: str
    anatomy: str | None = None
    """Name of the label map that gave the head; None: the average head."""
    site: str
    field_strength_t: float
    head: str | None = None
    """Folder of the real head that the stroke was written into; None: a simulated head."""
    onset_h: float | None
    pattern: str
    lesion_mask: str | None = None
    """Name of the mask file that gave the stroke its shape; None: computed, or no stroke."""
    lesion_volume_ml: float
    flair_visible_ml: float
    dwi_flair_mismatch: bool | None
    """The simulated reader's label, None without a stroke."""
    contrast_to_noise: float | None
    """Mean b1000 excess of the stroke over its own normal tissue, in noise deviations."""
    brightening: float | None
    """Mean b1000 of the stroke over that of its own normal tissue."""
    attempt: int
    """How many strokes were rejected before this one."""
    old_damage: tuple[str, ...]
    skull_stripped: bool
    brain_volume_ml: float
    te_ms: float
    tr_ms: float
    b_s_mm2: float
    snr: float


class Simulation(FileModel):
    """Content of simulation.json."""

    model_config = ConfigDict(use_attribute_docstrings=True)
    kind: ClassVar[str] = "simulation"
    schema_version: int = CURRENT["simulation"]
    simulator_version: int
    """Cases of two versions are different images: they never mix in a cohort."""
    settings: SimulateConfig
    """What a case does not depend on is not stored, and has its default here."""
    sources: dict[str, str] = Field(default_factory=dict)
    """Hash of each kind of input that the cohort was made from, as 'lesions'; empty: only seed and settings."""
    case: CaseRecord
    files: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+\.nii\.gz$")], str]
    """SHA-256 of each image, by file name."""

    @field_serializer("settings")
    def _without_the_cohort(self, settings: SimulateConfig) -> dict[str, Any]:
        return case_settings(settings)
