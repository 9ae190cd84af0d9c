"""draft.json: draft masks, who accepted them and what was changed. agreement.json: two readers compared."""

from __future__ import annotations

from typing import ClassVar

from pydantic import ConfigDict

from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.run import MadeFrom
from fvv.schemas.summary import Agreement, Estimate
from fvv.schemas.values import Number, Shown, Stored


class Registration(Stored):
    """How far FLAIR was moved to b0: degrees, and mm at the middle of the brain."""

    rotation_deg: float
    shift_mm: float


class Change(Stored):
    """One channel of a draft, and as it was accepted; Dice is NaN where both masks are empty."""

    draft_ml: float
    accepted_ml: float
    dice_coefficient: Number


class Acceptance(Stored):
    """What a reader accepted.

    Attributes:
        at: UTC, ISO 8601.
        labels_sha256: of labels.nii.gz as accepted.
        flair_visible: None: without a FLAIR that part is unknown, and no mask of it was written.
        files: SHA-256 of each mask that was written from it.
    """

    reader: Shown
    at: str
    labels_sha256: str
    stroke: Change
    flair_visible: Change | None
    files: dict[str, str]


class DraftRecord(FileModel):
    """Content of draft.json.

    Attributes:
        models: which models proposed the stroke, in words.
        registration: of FLAIR; None: there is no FLAIR, and nothing is proposed as FLAIR-visible.
        visible_ratio: FLAIR over expected FLAIR from which a voxel is proposed as FLAIR-visible.
        labels_sha256: of the label map as proposed.
        acceptances: in order; none: it is a draft.
    """

    model_config = ConfigDict(use_attribute_docstrings=True)
    kind: ClassVar[str] = "draft"
    schema_version: int = CURRENT["draft"]
    examination_id: str
    made_from: MadeFrom
    models: Shown
    registration: Registration | None
    visible_ratio: float
    labels_sha256: str
    files: dict[str, str]
    """SHA-256 of each file that was written with the draft and does not change."""
    acceptances: tuple[Acceptance, ...] = ()


class ChannelAgreement(Stored):
    """Two readers' masks of one channel.

    Attributes:
        n: examinations in which both outlined it.
        n_empty: those of them where both masks are empty, which have no Dice.
        dice_coefficient: mean over the others.
        intraclass: ICC(2,1) of the volumes: two-way random effects, absolute agreement, single measurement.
        volume: Bland-Altman of the volumes in mL, second reader minus first.
    """

    n: int
    n_empty: int
    dice_coefficient: Estimate
    intraclass: Estimate
    volume: Agreement


class KappaResult(Stored):
    """Two readers' mismatch labels.

    Attributes:
        counts: rows first reader, columns second: mismatch, none.
        source: where the labels come from, in words.
    """

    n: int
    counts: tuple[tuple[int, int], tuple[int, int]]
    kappa: Estimate
    source: str


class AgreementRecord(FileModel):
    """Content of agreement.json; intervals are at 95 %, over persons.

    Attributes:
        first, second: names of the two folders.
        only_one: examinations that one of the two lacks.
        drafts: examinations whose masks both began as the same draft, which raises every number.
        by_masks: labels by the rule on the masks.
        by_readers: labels of the two tables; None where there are not two.
    """

    kind: ClassVar[str] = "agreement"
    schema_version: int = CURRENT["agreement"]
    first: Shown
    second: Shown
    examinations: tuple[str, ...]
    persons: int
    only_one: tuple[str, ...]
    drafts: int
    stroke: ChannelAgreement
    flair_visible: ChannelAgreement
    by_masks: KappaResult
    by_readers: KappaResult | None
