"""What is noticed about an examination, and why one could not be done."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(Enum):
    """How much a finding matters."""

    NOTE = "note"
    WARNING = "warning"
    NOT_ASSESSABLE = "not assessable"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing quality control has to say: a stable code, a sentence for people, a severity."""

    code: str
    message: str
    severity: Severity


@dataclass(frozen=True, slots=True)
class Failure:
    """A patient that could not be done, and why; a row of failures.csv."""

    examination_id: str
    reason: str
