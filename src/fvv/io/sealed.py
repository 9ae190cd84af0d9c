"""JSON files that carry a hash of their own content: what was changed or damaged since it was written is noticed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fvv.errors import InputError
from fvv.io.atomic import write_text
from fvv.io.regular import read_regular_text

_SEAL = "sha256"
MAX_BYTES = 512 * 2**20
"""Of a sealed file; the record of one examination takes some kilobytes."""


def write_sealed(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON atomically, with the hash of all else in it.

    Args:
        path: of the file.
        content: in JSON's types, finite numbers only, without a key `sha256`.
    """
    sealed = {**content, _SEAL: _sha256(content)}
    write_text(path, json.dumps(sealed, indent=1, allow_nan=False) + "\n")


def read_sealed(path: Path) -> dict[str, Any]:
    """Read it back.

    Raises:
        InputError: not there, no such file, or not what was written.
    """
    text = read_regular_text(path, most_bytes=MAX_BYTES)
    try:
        content = json.loads(text)
        if not isinstance(content, dict) or content.pop(_SEAL, None) != _sha256(content):
            raise ValueError("its content is not what its hash says")
    except (ValueError, RecursionError) as error:
        raise InputError(f"was changed or damaged since it was written: {error}", file=path) from error
    return content


def _sha256(content: Mapping[str, Any]) -> str:
    # Through JSON and back: tuples are lists there and keys are text.
    return hashlib.sha256(json.dumps(json.loads(json.dumps(content)), sort_keys=True).encode()).hexdigest()
