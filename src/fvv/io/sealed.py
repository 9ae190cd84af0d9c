"""JSON files that carry a hash of their own content: one that was edited, or damaged, is told from one as written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvv.errors import InputError
from fvv.io.atomic import write_text
from fvv.system.regular import read_regular_text

SEAL = "content_sha256"
MAX_BYTES = 512 * 2**20
"""Of a sealed file; the record of one examination takes some kilobytes, the summary of a registry some megabytes."""


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON object of finite numbers with the hash of its content, atomically."""
    write_text(path, json.dumps(sealed(content), indent=2, allow_nan=False) + "\n")


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same content, and its hash in place of an earlier one."""
    plain = {key: value for key, value in content.items() if key != SEAL}
    return {**plain, SEAL: _digest(plain)}


def read_sealed(path: Path, *, schema_version: int | None = None) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Args:
        path: of the file.
        schema_version: which the content must have; None: any.

    Raises:
        InputError: missing, no JSON object, of another version, or not as it was written.
    """
    text = read_regular_text(path, most_bytes=MAX_BYTES)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"damaged: {type(error).__name__}: {error}", file=path) from error
    if not isinstance(content, dict):
        raise InputError("damaged: expected a JSON object", file=path)
    found = content.get("schema_version")
    if schema_version is not None and found != schema_version:
        raise InputError(f"expected schema version {schema_version}, found {found!r}", file=path)
    if content.get(SEAL) != sealed(content)[SEAL]:
        raise InputError("edited or damaged: its content differs from its own hash", file=path)
    return content


def _digest(content: dict[str, Any]) -> str:
    # As it comes back from the file: keys are text, tuples are lists.
    read_back = json.loads(json.dumps(content))
    return hashlib.sha256(json.dumps(read_back, sort_keys=True).encode()).hexdigest()
