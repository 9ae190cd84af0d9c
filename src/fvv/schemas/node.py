"""What `fvv listen` keeps of a study beside its images, and of its own health."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.values import Stored

Outcome = Literal["open", "answered", "not assessable", "not readable", "incomplete", "failed"]
"""Of a study: not yet looked at; with volumes; refused by quality control; no examination could be read from its
images; its transfer was cut off; the program failed on it."""
_READ_BY_THREADS = ConfigDict(defer_build=False)
"""Validators are built at import: older versions of pydantic do not keep threads from building one at once."""


class StudyRecord(FileModel):
    """record.json in the folder of a study.

    Attributes:
        outcome: what became of it.
        reason: why there is no answer, in one line; "" where there is one. It may name a series: not for a log.
        attempts: how often a worker ended without an outcome.
        objects: names of the object files that the outcome rests on, sorted.
        made_from: fingerprint of software, models and settings.
    """

    model_config = _READ_BY_THREADS
    kind: ClassVar = "study"
    schema_version: int = CURRENT["study"]
    outcome: Outcome = "open"
    reason: str = ""
    attempts: int = 0
    objects: tuple[str, ...] = ()
    made_from: str = ""


class DestinationHealth(Stored):
    """Whether a destination takes results.

    Attributes:
        failures: attempts without success since the last success.
        last_error: of the last of them, in one line; "" after a success.
    """

    failures: int = 0
    last_error: str = ""


class Health(FileModel):
    """health.json in the spool.

    Attributes:
        time: when it was written, ISO 8601 with the zone.
        software: of the node.
        states: how many studies are in each.
        oldest_waiting_s: of the oldest study that is neither done nor failed, s since its last object came; None: there
            is none.
        last_error: the last that went wrong, without identifiers; "" where nothing did since the start.
        destinations: by name.
    """

    model_config = _READ_BY_THREADS
    kind: ClassVar = "node health"
    schema_version: int = CURRENT["node health"]
    time: str
    software: str
    states: dict[str, int]
    oldest_waiting_s: float | None = None
    last_error: str = ""
    destinations: dict[str, DestinationHealth] = Field(default_factory=dict)
