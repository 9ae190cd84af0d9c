"""JSON files that carry a hash of their own content: one that was edited, or damaged, is told from one as written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from fvv.errors import InputError
from fvv.io.atomic import write_chunks
from fvv.schemas.base import FileModel
from fvv.system.fingerprint import file_sha256, fingerprint
from fvv.system.regular import read_regular_text, refuse_irregular

SEAL = "content_sha256"
MAX_BYTES = 512 * 2**20
"""Of a sealed file; the record of one examination takes some kilobytes, the summary of a registry some megabytes."""
Model = TypeVar("Model", bound=FileModel)


def write_sealed(path: Path, content: BaseModel | Mapping[str, Any]) -> None:
    """Write a model, or an object of JSON's types and finite numbers, with the hash of its content, atomically."""
    if isinstance(content, BaseModel):
        content = content.model_dump(mode="json", by_alias=True)
    pieces = json.JSONEncoder(indent=2, allow_nan=False).iterencode(sealed(content))
    write_chunks(path, chain(pieces, "\n"))


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same content with its hash; an earlier hash in it is replaced."""
    bare = {key: value for key, value in content.items() if key != SEAL}
    return {**bare, SEAL: fingerprint(**bare)}


def read_record(path: Path, model: type[Model]) -> Model:
    """Read a sealed file of one kind, of any version up to the current one."""
    return model.parse(read_sealed(path), path)


def read_sealed(path: Path) -> dict[str, Any]:
    """Read what `write_sealed` wrote, as JSON types, without its seal."""
    try:
        content = json.loads(read_regular_text(path, most_bytes=MAX_BYTES))
    except (ValueError, RecursionError) as error:
        raise InputError(f"damaged: {type(error).__name__}: {error}", file=path) from error
    if not isinstance(content, dict):
        raise InputError("damaged: expected a JSON object", file=path)
    if content.pop(SEAL, None) != sealed(content)[SEAL]:
        raise InputError("edited or damaged: its content differs from its own hash", file=path)
    return content


def verify_files(folder: Path, files: Mapping[str, str], *, hint: str | None = None) -> None:
    """Compare files with the hashes that a record keeps of them."""
    for name, sha256 in files.items():
        refuse_irregular(folder / name)
        if file_sha256(folder / name) != sha256:
            raise InputError("differs from the file that was written", file=folder / name, hint=hint)
