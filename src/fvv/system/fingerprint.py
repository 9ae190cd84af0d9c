"""What a result depends on, as one hash: a result is still valid if and only if its fingerprint is the one of now."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic_core import to_jsonable_python

from fvv.errors import InputError


def fingerprint(**parts: Any) -> str:
    """SHA-256 of named values, the same on every machine and in whatever order they are named.

    Args:
        parts: all that the result depends on: what JSON can hold, and pydantic models, dataclasses, enums, tuples.
            A part that is added or renamed changes every fingerprint: what was made before is made again.
    """
    digest = hashlib.sha256(b"{")
    for number, name in enumerate(sorted(parts)):  # One at a time: the parts of a large cohort's record are long.
        digest.update(f"{', ' if number else ''}{json.dumps(name)}: ".encode())
        digest.update(json.dumps(to_jsonable_python(parts[name]), sort_keys=True).encode())
    digest.update(b"}")
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror or error}", file=path) from error
