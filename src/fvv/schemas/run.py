"""run.json, and the record that each shard writes: what ran, with what, and which examinations it answers for."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue

from fvv.data import Failure
from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT
from fvv.schemas.summary import Measured
from fvv.schemas.values import Stored
from fvv.system.shard import Shard

_DIFFERENCES = {
    "software": "another version of fvv",
    "models": "other models",
    "settings": "other settings",
    "images": "other images",
}


class MadeFrom(Stored):
    """All that a result depends on: by it a run knows its own results.

    Attributes:
        models: fingerprint of the bundle's manifest, which holds that of each model; "" where no model is used.
        settings: fingerprint of every setting that may change a number.
        images: fingerprint of an examination's files; "" for a whole run.
    """

    software: str
    models: str = ""
    settings: str
    images: str = ""

    def with_images(self, sha256: str) -> MadeFrom:
        """The same run, one examination of it."""
        return self.model_copy(update={"images": sha256})

    def differences(self, other: MadeFrom) -> tuple[str, ...]:
        """What differs, in words; images are compared where both are of an examination."""
        names = [name for name in _DIFFERENCES if name != "images" or (self.images and other.images)]
        return tuple(_DIFFERENCES[name] for name in names if getattr(self, name) != getattr(other, name))


class RunRecord(FileModel):
    """What one run, or one shard of it, did.

    Attributes:
        environment: versions of packages and of Python, operating system and processor.
        options: the settings, as a settings file holds them.
        about: what the page says of the run: models, preprocessing, device.
        models: SHA-256 of each file of a model that ran.
        results: where each finished examination's record lies, relative to the folder of the run.
        shard: which part of the cohort; None: all of it.
        cohort: names of all examinations, those of other shards too.
        ended: false in the record of a shard that is running, or was killed.
        measured: of a shard of `evaluate`: what its part of the summary is made from.
    """

    kind: ClassVar = "run"
    schema_version: int = CURRENT["run"]
    verb: Literal["predict", "simulate", "evaluate"]
    software: str
    environment: dict[str, str] = Field(default_factory=dict)
    options: dict[str, JsonValue]
    about: dict[str, str] = Field(default_factory=dict)
    models: dict[str, str] = Field(default_factory=dict)
    made_from: MadeFrom
    results: dict[str, str] = Field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    shard: Shard | None = None
    cohort: tuple[str, ...]
    ended: bool = False
    seconds: float = 0.0
    measured: Measured | None = None

    @property
    def examinations(self) -> set[str]:
        """Names of all that it answers for."""
        return {*self.results, *(failure.examination_id for failure in self.failures)}

    def finished(self, results: dict[str, str], failures: tuple[Failure, ...], seconds: float) -> RunRecord:
        """The same run, at its end."""
        known = {"results": results, "failures": failures, "seconds": round(seconds, 1), "ended": True}
        return self.model_copy(update=known)
