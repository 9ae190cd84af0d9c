"""run.json, and the like of it that each shard writes: what ran, with what, and which examinations it answers for."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fvv import __version__
from fvv.data import Failure
from fvv.errors import InputError
from fvv.io.bundle import ModelBundle
from fvv.io.sealed import SEAL, read_sealed, write_sealed
from fvv.system.shard import Shard

RUN_FILE = "run.json"
SHARDS_FOLDER = ".fvv.shards"
SCHEMA_VERSION = 1
_PACKAGES = ("numpy", "scipy", "scikit-image", "nibabel", "onnxruntime")
_DIFFERENCES = {
    "software": "another version of fvv",
    "models": "other models",
    "settings": "other settings",
    "images": "other images",
}


@dataclass(frozen=True, slots=True)
class MadeFrom:
    """All that a result depends on: by it a run knows its own results.

    Attributes:
        software: version of this package.
        models: SHA-256 of the bundle's manifest, which holds that of each model.
        settings: SHA-256 of every setting that may change a number.
        images: SHA-256 of an examination's files; "" for a whole run.
    """

    software: str
    models: str
    settings: str
    images: str = ""

    def with_images(self, sha256: str) -> MadeFrom:
        """The same run, one examination of it."""
        return replace(self, images=sha256)

    def differences(self, other: MadeFrom) -> tuple[str, ...]:
        """What differs, in words; images are compared where both are of an examination."""
        names = [field.name for field in fields(self) if field.name != "images" or (self.images and other.images)]
        return tuple(_DIFFERENCES[name] for name in names if getattr(self, name) != getattr(other, name))


def hash_of(content: Any) -> str:
    """SHA-256 of a value that JSON can hold."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What one run, or one shard of it, did.

    Attributes:
        made_from: what all its results depend on.
        description: versions, options, models, device; by name, as JSON holds them.
        results: where each finished examination's record lies, relative to the folder of the run.
        failures: the other examinations.
        seconds: wall time.
        shard: which part of the cohort; None: all of it.
        cohort: names of all examinations, those of other shards too.
        ended: a shard that was killed has not.
    """

    made_from: MadeFrom
    description: dict[str, Any]
    results: dict[str, str]
    failures: tuple[Failure, ...] = ()
    seconds: float = 0.0
    shard: Shard | None = None
    cohort: tuple[str, ...] = ()
    ended: bool = True

    @property
    def examinations(self) -> set[str]:
        """Names of all that it answers for."""
        return {*self.results, *(failure.patient for failure in self.failures)}

    def write(self, path: Path) -> None:
        """Write it, sealed."""
        part = {"shard": str(self.shard), "cohort": list(self.cohort), "ended": self.ended} if self.shard else {}
        content = {
            "schema_version": SCHEMA_VERSION,
            **self.description,
            "made_from": asdict(self.made_from),
            "results": self.results,
            "failures": {failure.patient: failure.reason for failure in self.failures},
            **part,
            "seconds": round(self.seconds, 1),
        }
        write_sealed(path, content)


def read_run(path: Path) -> RunRecord:
    """Read what `RunRecord.write` wrote.

    Raises:
        InputError: missing, damaged, or of another version.
    """
    content = read_sealed(path, schema_version=SCHEMA_VERSION)
    del content[SEAL], content["schema_version"]
    try:
        return RunRecord(
            made_from=MadeFrom(**content.pop("made_from")),
            results=dict(content.pop("results")),
            failures=tuple(Failure(name, reason) for name, reason in content.pop("failures").items()),
            seconds=float(content.pop("seconds")),
            shard=Shard.parse(content.pop("shard")) if "shard" in content else None,
            cohort=tuple(content.pop("cohort", ())),
            ended=bool(content.pop("ended", True)),
            description=content,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(f"not a record this version reads: {type(error).__name__}: {error}", file=path) from error


def shard_file(root: Path, shard: Shard) -> Path:
    """Where a shard's record lies; its folder is the shard's own, locked while it runs."""
    return root / SHARDS_FOLDER / shard.file_part / RUN_FILE


def read_shards(root: Path) -> list[RunRecord]:
    """Records of all shards in a folder, by number.

    Raises:
        InputError: there is none, or one is damaged.
    """
    files = sorted((root / SHARDS_FOLDER).glob(f"*/{RUN_FILE}"))
    if not files:
        raise InputError("holds no shard of a run", file=root, hint="run the shards first, with --shard 1/N and so on")
    records = [read_run(file) for file in files]
    for record, file in zip(records, files, strict=True):
        if record.shard is None:
            raise InputError("not the record of a shard", file=file)
    return sorted(records, key=lambda record: (record.shard.count, record.shard.index) if record.shard else (0, 0))


def describe_run(
    bundle: ModelBundle, options: dict[str, Any], ran: dict[str, Any], about: dict[str, str]
) -> dict[str, Any]:
    """What run.json says of a prediction, beside its results.

    Args:
        bundle: the models there were.
        options: what was asked for.
        ran: what that came to: how many models, from which files, on which provider.
        about: what the page says of the run.
    """
    return {
        "verb": "predict",
        "software": f"fvv {__version__}",
        "packages": {name: version(name) for name in _PACKAGES},
        "python": platform.python_version(),
        "machine": {"system": platform.system(), "processor": platform.machine()},
        "options": options,
        "ran": ran,
        "about": about,
        "bundle": {
            "run_name": bundle.manifest.run_name,
            "notice": bundle.manifest.notice,
            "profile": bundle.profile.model_dump(mode="json"),
            "postprocess": bundle.manifest.postprocess.model_dump(mode="json"),
            "models": {model.file: model.sha256 for model in bundle.models},
        },
    }
