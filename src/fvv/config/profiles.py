"""Preprocessing profiles: how images become network input, stored with prepared data and with weights."""

from __future__ import annotations

import hashlib
import json
from typing import Literal

from pydantic import Field

from fvv.config.base import Settings

MaskMethod = Literal["otsu", "robust", "given", "command"]


class PreprocessingProfile(Settings):
    """How images become network input. Stored with the prepared data and with all weights."""

    name: str
    """Name of the profile."""
    mask_method: MaskMethod
    """Brain mask where no mask file is given."""
    mask_command: str = ""
    """Command of an outside tool, used with mask_method "command": "mri_synthstrip -i {b0} -m {mask}"."""
    outlier_robust_zscore: bool
    """Exclude voxels over median + 3 * 1.4826 * MAD of b1000 from mean and deviation (a large infarct shifts them)."""
    scale_mask: Literal["brain", "robust"] = "brain"
    """Mask used for z-score statistics: the brain mask (possibly user-supplied), or always the automatic mask of method
    robust, so that z-scores are the same with and without a mask file."""
    orientation: Literal["as-stored", "ras"] = "as-stored"
    """as-stored: axial images whose first axis runs left to right or right to left keep it, as in the reference; ras:
    every image is reoriented to right, anterior, superior, so that one head gives one answer however it is stored."""
    grid_size: int = Field(default=256, ge=64, le=1024)
    """Edge of the in-plane grid, voxels."""
    clip: float = Field(default=10.0, ge=1, le=100)
    """z-scores are clipped to +- this."""
    zscore_dtype: Literal["float16", "float32"] = "float16"
    """float16 as in the store, so that the network sees a new examination exactly as a stored one. The reference rounds
    only what it stores: published models get float32."""
    context_slices: int = Field(default=3, ge=3, le=3)
    """Slices on each side of the segmented slice that the network sees: every network here takes seven."""

    @property
    def label(self) -> str:
        """The name and the start of the hash, which differs between profiles of one name with other settings."""
        return f"{self.name} ({self.sha256[:8]})"

    @property
    def sha256(self) -> str:
        """Hash of all fields: two profiles are equal if and only if their hashes are."""
        fields = self.model_dump(mode="json")
        # Fields that were added later do not change the hash of profiles without them.
        for name, before in (("scale_mask", "brain"), ("orientation", "as-stored")):
            if fields[name] == before:
                del fields[name]
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


PROFILES: dict[str, PreprocessingProfile] = {
    "reference-v1": PreprocessingProfile(name="reference-v1", mask_method="otsu", outlier_robust_zscore=False),
    "robust-v1": PreprocessingProfile(name="robust-v1", mask_method="robust", outlier_robust_zscore=True),
    "robust-v2": PreprocessingProfile(
        name="robust-v2", mask_method="robust", outlier_robust_zscore=True, scale_mask="robust"
    ),
    "robust-v3": PreprocessingProfile(
        name="robust-v3", mask_method="robust", outlier_robust_zscore=True, scale_mask="robust", orientation="ras"
    ),
}
ProfileName = Literal["reference-v1", "robust-v1", "robust-v2", "robust-v3"]
