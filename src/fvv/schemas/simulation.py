"""simulation.json: what a simulated examination was made from, and the reference behind its images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer

from fvv.config import SimulateConfig
from fvv.errors import InputError
from fvv.schemas.migrations import migrated


def case_settings(config: SimulateConfig) -> dict[str, Any]:
    """Settings on which a case depends, beside its number; JSON types."""
    return config.model_dump(mode="json", exclude={"cases", "only", "workers"})


class _Typed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CaseRecord(_Typed):
    """What is known of a simulated examination."""

    participant_id: str
    patient_id: str
    site: str
    field_strength_t: float
    onset_h: float | None
    pattern: str
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


class Simulation(_Typed):
    """Content of simulation.json."""

    schema_version: int
    simulator_version: int
    """Cases of two versions are different images: they never mix in a cohort."""
    settings: SimulateConfig
    """What a case does not depend on is not stored, and has its default here."""
    case: CaseRecord
    files: dict[Annotated[str, Field(pattern=r"^[a-z0-9_]+\.nii\.gz$")], str]
    """SHA-256 of each image, by file name."""
    content_sha256: str = ""
    """Seal of the file."""

    @field_serializer("settings")
    def _without_the_cohort(self, settings: SimulateConfig) -> dict[str, Any]:
        return case_settings(settings)

    @classmethod
    def parse(cls, content: Mapping[str, Any], file: Path) -> Simulation:
        """Read what a simulation.json of any version holds.

        Raises:
            InputError: of a version that cannot be read, or a field is missing, unknown or of the wrong type.
        """
        try:
            return cls.model_validate(migrated("simulation", content, file))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            hint = "delete the folder or use --overwrite"
            raise InputError(f"damaged: {where}: {first['msg']}", file=file, hint=hint) from error
