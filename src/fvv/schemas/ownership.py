""".fvv.json: which files of a folder this program wrote."""

from __future__ import annotations

from typing import ClassVar

from fvv.schemas.base import FileModel
from fvv.schemas.migrations import CURRENT


class Marker(FileModel):
    """The marker file of an output folder.

    Attributes:
        writers: names of files and subfolders, each with the stage that writes it; "" where any may.
    """

    kind: ClassVar = "ownership"
    schema_version: int = CURRENT["ownership"]
    writers: dict[str, str]
