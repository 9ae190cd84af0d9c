"""The lesions of an answer, as results.json and lesions.csv hold them."""

from __future__ import annotations

from typing import Literal

from fvv.schemas.values import Stored


class Lesion(Stored):
    """One connected component of the predicted stroke: a row of lesions.csv.

    Attributes:
        lesion: 1 is the largest.
        side: of the patient: right, left, or both where a fifth or more lies on either side of the brain's middle.
        front_to_back, height: third of the brain mask's extent. A coarse place, no anatomical label.
        first_slice, last_slice: counted from 1 at the foot.
        x_mm, y_mm, z_mm: centroid, RAS+ mm.
        volume_ml: voxels times the native voxel's volume. Lesions do not add up to the stroke volume exactly: that is
            counted on the working grid.
        share_right: share of its voxels to the right of the midline.
        adc_relative: median ADC over that of the brain outside the stroke; None where not measured.
        flair_visible_share: share of its volume that is FLAIR-visible, mean over models.
        model_agreement: mean share of the models that call its voxels stroke; None where unknown.
    """

    lesion: int
    side: Literal["right", "left", "both"]
    front_to_back: Literal["anterior", "middle", "posterior"]
    height: Literal["upper", "middle", "lower"]
    first_slice: int
    last_slice: int
    x_mm: float
    y_mm: float
    z_mm: float
    volume_ml: float
    share_right: float
    adc_relative: float | None
    flair_visible_share: float
    model_agreement: float | None

    @property
    def place(self) -> str:
        """The thirds in words: "anterior, upper"."""
        return f"{self.front_to_back}, {self.height}"
