"""What the network marks."""

from __future__ import annotations

from enum import Enum


class Channel(Enum):
    """What the network marks: the one source of channel order.

    Examples:
        >>> import fvv
        >>> [channel.label for channel in fvv.Channel]
        ['brain', 'stroke', 'flair_visible']
    """

    BRAIN = 0
    STROKE = 1
    FLAIR_VISIBLE = 2

    @property
    def label(self) -> str:
        """Name used in files: brain, stroke, flair_visible."""
        return self.name.lower()

    @property
    def title(self) -> str:
        """Name for people: Brain, Stroke, FLAIR-visible."""
        return ("Brain", "Stroke", "FLAIR-visible")[self.value]

    @property
    def colour(self) -> str:
        """Colour in every picture, page and DICOM object, "#rrggbb": bluish green, sky blue, vermillion.

        From Okabe and Ito's palette, distinct in every common form of colour blindness
        (https://jfly.uni-koeln.de/color/).
        """
        return ("#009e73", "#56b4e9", "#d55e00")[self.value]
