"""What all kinds of files have in common: a version, no unknown field, and one way to read them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ConfigDict, ValidationError

from fvv.errors import InputError
from fvv.names import plain
from fvv.schemas.migrations import migrated
from fvv.schemas.values import Stored


class FileModel(Stored):
    """What one kind of file holds.

    Attributes:
        schema_version: of its layout; each kind names its current one as the default.
    """

    model_config = ConfigDict(populate_by_name=True)
    kind: ClassVar[str]
    schema_version: int

    @classmethod
    def parse(cls, content: Mapping[str, Any], file: Path) -> Self:
        """Read what a file of any version up to the current one holds.

        Raises:
            InputError: of a version that cannot be read, or a field is missing, unknown or of the wrong type.
        """
        try:
            return cls.model_validate(migrated(cls.kind, content, file))
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise InputError(f"damaged: {plain(where)}: {plain(first['msg'])}", file=file) from error
