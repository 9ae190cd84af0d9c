"""What the stored values of an evaluation share."""

from __future__ import annotations

import math
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from fvv.data import Channel
from fvv.names import plain


class Stored(BaseModel):
    """A value that is stored in a file: immutable, no unknown fields.

    The validator of a kind is built when one is first read or made: a verb loads many kinds and needs few.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


def _nan_of_null(value: Any) -> Any:
    return math.nan if value is None else value


def _null_of_nan(value: float) -> int | float | None:
    return None if math.isnan(value) else value


_Nullable = PlainSerializer(_null_of_nan, when_used="json")
Number = Annotated[float, BeforeValidator(_nan_of_null), _Nullable]
"""A number that may be undefined: NaN here, null in JSON."""
Count = Annotated[int | float, BeforeValidator(_nan_of_null), _Nullable]
"""A whole number that may be undefined."""
Shown = Annotated[str, AfterValidator(plain)]
"""Text of people or other programs that is shown: on one line, control characters escaped."""
T = TypeVar("T")


class ByChannel(Stored, Generic[T]):
    """One value for each channel."""

    brain: T
    stroke: T
    flair_visible: T

    def of(self, channel: Channel) -> T:
        """The value of a channel."""
        value: T = getattr(self, channel.label)
        return value
