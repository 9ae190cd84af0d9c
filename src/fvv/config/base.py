"""What all settings share: frozen models whose docstrings are help texts, and kinds of text that they check."""

from __future__ import annotations

import re
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo, field_validator

from fvv.names import is_plain


def _one_line(text: str) -> str:
    if not is_plain(text):
        raise ValueError("expected one line of printable characters")
    return text


OneLine = Annotated[str, AfterValidator(_one_line)]
"""Text that is shown: a control character in it could forge other lines."""


def _matching(pattern: str, expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"expected {expected}")
        return text

    return AfterValidator(check)


_AET = r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?"
AETitle = Annotated[str, _matching(_AET, "up to 16 printable characters without backslash, no blank at an end")]
"""DICOM AE (PS3.5 6.2)."""
_PORT = "([1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
DestinationText = Annotated[
    str,
    _matching(
        rf"[\w-]{{1,32}}=[!-?A-\[\]-~]([ -?A-\[\]-~]{{0,14}}[!-?A-\[\]-~])?@[\w.:-]+:{_PORT}",
        "NAME=AET@HOST:PORT, such as pacs=ARCHIVE@10.0.0.2:104",
    ),
]


class Settings(BaseModel):
    """A section of the settings: frozen, without unknown keys; the docstring of each field is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, about: ValidationInfo) -> Any:
        """`true` would count as 1, in mL or in seconds."""
        if isinstance(value, bool) and about.field_name is not None:
            kind = cls.model_fields[about.field_name].annotation
            if {int, float} & {kind, *get_args(kind)} and bool not in {kind, *get_args(kind)}:
                raise ValueError("expected a number, not true or false")
        return value
