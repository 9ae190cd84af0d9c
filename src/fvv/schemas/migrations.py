"""Older files stay readable: each kind of file has a schema version and, for every older version, a step to the next.

The rule: a change of a file's content raises its version in `CURRENT` and adds a step to `STEPS`, in one commit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from fvv.errors import InputError

VERSION_KEY: Final = "schema_version"

CURRENT: Final[Mapping[str, int]] = {
    "agreement": 1,
    "bundle": 3,
    "checkpoint": 2,
    "draft": 1,
    "finished fold": 1,
    "node health": 1,
    "ownership": 1,
    "patient": 3,
    "results": 2,
    "run": 2,
    "shard report": 2,
    "simulation": 2,
    "split": 1,
    "store": 1,
    "stored case": 2,
    "study": 1,
    "summary": 4,
    "training run": 1,
}
"""The version that this program writes, by kind of file."""


def _without_removed_limit(content: Any) -> Any:
    """A section that holds settings of post-processing, without the limit that strokes without an ADC had."""
    given = content.get("postprocess") if isinstance(content, dict) else None
    if not isinstance(given, dict):
        return content
    return {**content, "postprocess": {name: given[name] for name in given if name != "core_without_adc_mm3"}}


STEPS: Final[Mapping[tuple[str, int], Callable[[dict[str, Any]], dict[str, Any]]]] = {
    # All training began with random weights.
    ("bundle", 1): lambda content: content,
    # Strokes without an ADC had a limit of their own.
    ("bundle", 2): _without_removed_limit,
    ("checkpoint", 1): lambda content: content,
    # It was not known of which cohort it was a part.
    ("shard report", 1): lambda content: {**content, "cohort_sha256": ""},
    # Made from nothing but seed and settings.
    ("simulation", 1): lambda content: {**content, "sources": {}},
    # The signal inside the predicted stroke was not measured.
    ("patient", 1): lambda content: content,
    # The FVV of each model was not kept.
    ("patient", 2): lambda content: content,
    # Only examinations with both ROIs were stored.
    ("stored case", 1): lambda content: {**content, "known": ["brain", "stroke", "flair_visible"]},
    # Lesions were not listed one by one.
    ("results", 1): lambda content: {**content, "about": {}, "lesions": []},
    # `evaluate` knew no shards.
    ("run", 1): lambda content: {**content, "measured": None},
    # Nothing was said of examinations without a stroke.
    ("summary", 1): lambda content: {**content, "stroke_free": None},
    # The FVV was not compared with plain baselines.
    ("summary", 2): lambda content: {**content, "baselines": []},
    # The settings held that limit, too.
    ("summary", 3): lambda content: {**content, "settings": _without_removed_limit(content.get("settings"))},
}
"""(kind, version) to the function that brings content of that version to the next one."""


def migrated(kind: str, content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    """Bring what a file holds to the version that this program writes.

    Args:
        kind: of the file, a key of `CURRENT`.

    Raises:
        InputError: no version, a newer version, or an older one that has no step.
    """
    version, current = content.get(VERSION_KEY), CURRENT[kind]
    if not isinstance(version, int) or isinstance(version, bool):
        raise InputError(
            f"not a {kind} file of fvv: expected {VERSION_KEY}, a whole number, found {version!r}", file=file
        )
    if version > current:
        raise InputError(
            f"{kind} file of a newer version: {VERSION_KEY} {version}, this fvv reads up to {current}",
            file=file,
            hint="install a newer fvv",
        )
    moved = dict(content)
    for older in range(version, current):
        step = STEPS.get((kind, older))
        if step is None:
            raise InputError(f"{kind} file of version {older} cannot be read any more", file=file, hint="make it again")
        moved = {**step(moved), VERSION_KEY: older + 1}
    return moved
