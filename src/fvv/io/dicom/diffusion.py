"""What an image says of its diffusion weighting and of its kind: the standard's elements first, then the makers' own.

Tag numbers: DICOM PS3.3 and PS3.6 (current edition); private ones as the makers' conformance statements give them.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom

from fvv.io.dicom.files import DAMAGE

GE_OFFSET = 100_000
"""GE adds multiples of 10^9 to the b-value; no b-value reaches 10^5."""
_SEQUENCE_NAME_B = re.compile(r"_b(\d+)")
COMPUTED = frozenset({"ADC", "EADC", "EXP", "FA", "COLFA", "TENSOR", "DADC"})
"""Words of ImageType of what is computed from diffusion images."""
_NO_SLICES = frozenset({"LOCALIZER", "SCOUT", "PROJECTION IMAGE", "SCREEN SAVE", "SCREENSAVE", "MPR"})
_COMPLEX = frozenset({"P", "PHASE", "PHASE MAP", "R", "REAL", "I", "IMAGINARY", "VELOCITY MAP"})
"""Words of ImageType, from the third on, of parts of a complex image other than its magnitude."""
_WEIGHTED = frozenset({"DIRECTIONAL", "ISOTROPIC", "BMATRIX"})
_TRACE = frozenset({"TRACEW", "TRACE", "ISOTROPIC"})
OTHER_CONTRASTS = frozenset(
    {"FLAIR", "T1", "T2", "T1W", "T2W", "SWI", "GRE", "TOF", "MPRAGE", "PERFUSION", "ASL", "BOLD"}
)
"""Words of a description of what is no diffusion image."""


@dataclass(frozen=True, slots=True)
class _PrivateElement:
    """An element of a maker: it counts where its block's owner is named so, or is not named at all."""

    group: int
    element: int
    creator: str

    def numbers(self, place: Any) -> tuple[float, ...]:
        """Its values; empty where it is not there or belongs to another maker."""
        if (self.group, self.element) not in place:
            return ()
        owner = place.get((self.group, self.element >> 8))
        if owner is not None and self.creator not in str(owner.value).upper():
            return ()
        value = place[self.group, self.element].value
        if isinstance(value, bytes):  # Its type is not known to the file.
            kind = {4: "<f4", 8: "<f8", 12: "<f4", 24: "<f8"}.get(len(value))
            text = value.decode("ascii", errors="replace").replace("\0", " ").strip()
            if re.fullmatch(r"[-+0-9.eE\\ ]+", text):
                value = text.split("\\")
            else:
                value = np.frombuffer(value, kind).tolist() if kind else ()
        elif not isinstance(value, list | tuple | pydicom.multival.MultiValue):
            value = () if value is None else (value,)
        try:
            return tuple(float(number) for number in value)
        except (TypeError, ValueError):
            return ()


_B_VALUES = (
    _PrivateElement(0x0019, 0x100C, "SIEMENS"),
    _PrivateElement(0x2001, 0x1003, "PHILIPS"),
    _PrivateElement(0x0043, 0x1039, "GEMS"),
    _PrivateElement(0x0065, 0x1009, "IMAGE PRIVATE HEADER"),
)
_DIRECTIONS = (
    (_PrivateElement(0x0019, 0x100E, "SIEMENS"),),
    tuple(_PrivateElement(0x2005, 0x10B0 + n, "PHILIPS") for n in range(3)),
    tuple(_PrivateElement(0x0019, 0x10BB + n, "GEMS") for n in range(3)),
    (_PrivateElement(0x0065, 0x1037, "IMAGE PRIVATE HEADER"),),
)


@dataclass(frozen=True, slots=True)
class Weighting:
    """How one image is weighted.

    Attributes:
        b_value: s/mm^2; None where nothing states it.
        isotropic: averaged over directions by the scanner (a trace image).
        directed: weighted along one direction that the header gives.
        declared: the header says that it belongs to a diffusion acquisition; b = 0 alone says nothing, since one maker
            writes it into every image.
        kind: words of ImageType, or of FrameType of an enhanced object.
        not_used: why it is no diffusion image to be averaged or paired; "" where it may be.
    """

    b_value: float | None
    isotropic: bool
    directed: bool
    declared: bool
    kind: tuple[str, ...]
    not_used: str


def weighting_of(dataset: Any, groups: list[Any]) -> Weighting:
    """What a dataset, and the functional groups of one of its frames, say of the weighting.

    Args:
        dataset: of the object.
        groups: where to look first: the frame's own groups, then the shared ones; the dataset itself for a classic
            object.
    """
    frame_type = next((item for group in groups if (item := first_item(group, "MRImageFrameTypeSequence"))), dataset)
    kind = tuple(str(word).strip().upper() for word in frame_type.get("FrameType") or dataset.get("ImageType") or ())
    component = str(lookup([frame_type, dataset], "ComplexImageComponent", "")).upper()
    contrast = str(lookup([frame_type, dataset], "AcquisitionContrast", "")).upper()
    places = [first_item(group, "MRDiffusionSequence") or group for group in groups]
    directionality = str(lookup(places, "DiffusionDirectionality", "")).upper()
    b_value = _b_value(dataset, groups, places)
    named = bool(_SEQUENCE_NAME_B.search(str(dataset.get("SequenceName") or "")))
    return Weighting(
        b_value=b_value,
        isotropic=bool(_words(kind) & _TRACE) or directionality == "ISOTROPIC" or _philips_isotropic(dataset),
        directed=_directed(dataset, places),
        declared=directionality in _WEIGHTED or named or contrast == "DIFFUSION" or "DIFFUSION" in _words(kind),
        kind=kind,
        not_used=_not_used(kind, component),
    )


def description_words(text: str) -> frozenset[str]:
    """Words of a description, in capitals: they break ties and decide nothing else."""
    return frozenset(re.split(r"[^A-Z0-9]+", text.upper())) - {""}


def lookup(places: list[Any], name: str, default: Any) -> Any:
    """The first value of an element in some datasets."""
    return next((place.get(name) for place in places if place.get(name) not in (None, "")), default)


def first_item(place: Any, sequence: str) -> Any:
    """First item of a sequence, None where there is none."""
    items = None if place is None else place.get(sequence)
    return items[0] if items else None


def _words(kind: tuple[str, ...]) -> set[str]:
    """Values of ImageType and their parts: `ADC_MAP` is an ADC map."""
    return {*kind, *(part for word in kind for part in word.split("_"))}


def _not_used(kind: tuple[str, ...], component: str) -> str:
    words = _words(kind)
    if words & COMPUTED:
        return "computed maps"
    if words & _NO_SLICES:
        return "localisers and screen saves"
    if set(kind[2:]) & _COMPLEX or component in _COMPLEX:
        return "phase, real or imaginary images"
    return ""


def _b_value(dataset: Any, groups: list[Any], places: list[Any]) -> float | None:
    stated = lookup(places, "DiffusionBValue", None)
    if stated is not None:
        return float(stated)
    for place in (*groups, dataset):
        for element in _B_VALUES:
            if numbers := element.numbers(place):
                return numbers[0] % GE_OFFSET if element.creator == "GEMS" else numbers[0]
    named = _SEQUENCE_NAME_B.search(str(dataset.get("SequenceName") or ""))
    return float(named[1]) if named else _siemens_mosaic_b(dataset)


def _siemens_mosaic_b(dataset: Any) -> float | None:
    """b-value of the CSA header, where older Siemens mosaics alone have it."""
    if (0x0029, 0x1010) not in dataset or "MOSAIC" not in (dataset.get("ImageType") or ()):
        return None
    value = siemens_csa(dataset, "B_value")
    return None if value is None else float(value[0])


def siemens_csa(dataset: Any, name: str) -> list[Any] | None:
    """Values of one entry of a Siemens image's CSA header; None where there is none, or it cannot be read."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nibabel calls its DICOM readers experimental.
        from nibabel.nicom.csareader import CSAError, get_csa_header  # noqa: PLC0415  (mosaics alone need it)

    try:
        header = get_csa_header(dataset, "image")
        items = header["tags"][name]["items"] if header else []
    except (*DAMAGE, CSAError):
        return None
    return list(items) or None


def _philips_isotropic(dataset: Any) -> bool:
    """Diffusion Direction of Philips' classic objects: P, M, S, O, or I for the isotropic image."""
    element = dataset.get((0x2001, 0x1004))
    owner = dataset.get((0x2001, 0x0010))
    if element is None or owner is None or "PHILIPS" not in str(owner.value).upper():
        return False
    value = element.value.decode("ascii", errors="replace") if isinstance(element.value, bytes) else str(element.value)
    return value.strip("\0 ").upper() in {"I", "ISOTROPIC"}


def _directed(dataset: Any, places: list[Any]) -> bool:
    sequences = [first_item(place, "DiffusionGradientDirectionSequence") or place for place in places]
    vector = lookup([*sequences, dataset], "DiffusionGradientOrientation", None)
    if vector is not None:
        return any(abs(float(number)) > 1e-6 for number in np.atleast_1d(vector))
    for elements in _DIRECTIONS:
        numbers = [number for element in elements for number in element.numbers(dataset)]
        if numbers:
            return any(abs(number) > 1e-6 for number in numbers)
    return False
