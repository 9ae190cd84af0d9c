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

from fvv.io.dicom.find import DAMAGE

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
_Private = tuple[int, int, str]
"""Group, element, and a word of the name of the maker's block."""
_B_VALUES: tuple[_Private, ...] = (
    (0x0019, 0x100C, "SIEMENS"),
    (0x2001, 0x1003, "PHILIPS"),
    (0x0043, 0x1039, "GEMS"),
    (0x0065, 0x1009, "IMAGE PRIVATE HEADER"),
)
_DIRECTIONS: tuple[tuple[_Private, ...], ...] = (
    ((0x0019, 0x100E, "SIEMENS"),),
    tuple((0x2005, 0x10B0 + n, "PHILIPS") for n in range(3)),
    tuple((0x0019, 0x10BB + n, "GEMS") for n in range(3)),
    ((0x0065, 0x1037, "IMAGE PRIVATE HEADER"),),
)
_MAKERS = [*_B_VALUES, *(element for elements in _DIRECTIONS for element in elements), (0x2001, 0x1004, "PHILIPS")]
_CSA_BLOCKS = range(0x10, 0x20)
"""Of group 0029, where Siemens' CSA header may lie."""
LOOKED_AT: tuple[str | tuple[int, int], ...] = (
    *("ImageType", "SequenceName", "DiffusionBValue", "DiffusionDirectionality", "DiffusionGradientOrientation"),
    *("FrameType", "ComplexImageComponent", "AcquisitionContrast", "MRImageFrameTypeSequence", "MRDiffusionSequence"),
    "DiffusionGradientDirectionSequence",
    *((group, element) for group, number, _ in _MAKERS for element in (number, number >> 8)),
    *((0x0029, element) for block in _CSA_BLOCKS for element in (block, block << 8 | 0x10)),
)
"""Top-level elements that are read here: an index of many files reads no others."""


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
        groups: where to look first: the frame's own groups, then the shared ones; the dataset itself for a classic
            object.
    """
    frame_type = next((item for group in groups if (item := first_item(group, "MRImageFrameTypeSequence"))), dataset)
    kind = kind_of(frame_type.get("FrameType") or dataset.get("ImageType"))
    # `ADC_MAP` is an ADC map.
    words = {*kind, *(part for word in kind for part in word.split("_"))}
    component = str(lookup([frame_type, dataset], "ComplexImageComponent", "")).upper()
    contrast = str(lookup([frame_type, dataset], "AcquisitionContrast", "")).upper()
    places = [first_item(group, "MRDiffusionSequence") or group for group in groups]
    directionality = str(lookup(places, "DiffusionDirectionality", "")).upper()
    named = _SEQUENCE_NAME_B.search(str(dataset.get("SequenceName") or ""))
    not_used = ""
    if words & COMPUTED:
        not_used = "computed maps"
    elif words & _NO_SLICES:
        not_used = "localisers and screen saves"
    elif set(kind[2:]) & _COMPLEX or component in _COMPLEX:
        not_used = "phase, real or imaginary images"
    return Weighting(
        b_value=_b_value(dataset, groups, places, named),
        isotropic=bool(words & _TRACE) or directionality == "ISOTROPIC" or _philips_isotropic(dataset),
        directed=_directed(dataset, places),
        declared=directionality in _WEIGHTED or bool(named) or contrast == "DIFFUSION" or "DIFFUSION" in words,
        kind=kind,
        not_used=not_used,
    )


def kind_of(image_type: Any) -> tuple[str, ...]:
    """Words of ImageType in capitals; one alone is no list."""
    words = [image_type] if isinstance(image_type, str) else image_type or ()
    return tuple(str(word).strip().upper() for word in words)


def description_words(text: str) -> frozenset[str]:
    """Words of a description, in capitals: they break ties and decide nothing else."""
    return frozenset(re.split(r"[^A-Z0-9]+", text.upper())) - {""}


def lookup(places: list[Any], name: str, default: Any) -> Any:
    """The first value of an element in some datasets."""
    return next((value for place in places if (value := place.get(name)) not in (None, "")), default)


def first_item(place: Any, sequence: str) -> Any:
    """First item of a sequence, None where there is none."""
    items = None if place is None else place.get(sequence)
    return items[0] if items else None


def siemens_csa(dataset: Any, name: str) -> list[Any]:
    """Values of one entry of a Siemens image's CSA header; empty where there is none, or it cannot be read."""
    with warnings.catch_warnings(action="ignore"):  # nibabel calls its DICOM readers experimental.
        from nibabel.nicom.csareader import CSAError, get_csa_header  # noqa: PLC0415  (mosaics alone need it)

    try:
        header = get_csa_header(dataset, "image")
        return list(header["tags"][name]["items"]) if header else []
    except (*DAMAGE, CSAError):
        return []


def _b_value(dataset: Any, groups: list[Any], places: list[Any], named: re.Match[str] | None) -> float | None:
    stated = lookup(places, "DiffusionBValue", None)
    if stated is not None:
        return float(stated)
    for place in (*groups, dataset):
        for element in _B_VALUES:
            if numbers := _private_numbers(place, element):
                return numbers[0] % GE_OFFSET if element[2] == "GEMS" else numbers[0]
    if named:
        return float(named[1])
    # Older Siemens mosaics have it in their CSA header alone.
    mosaic = (0x0029, 0x1010) in dataset and "MOSAIC" in kind_of(dataset.get("ImageType"))
    values = siemens_csa(dataset, "B_value") if mosaic else []
    return float(values[0]) if values else None


def _private_numbers(place: Any, element: _Private) -> tuple[float, ...]:
    """Values of a maker's element; empty where it is not there or another maker's name stands on its block."""
    group, number, maker = element
    if (group, number) not in place:
        return ()
    owner = place.get((group, number >> 8))
    if owner is not None and maker not in str(owner.value).upper():
        return ()
    value = place[group, number].value
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


def _philips_isotropic(dataset: Any) -> bool:
    """Diffusion Direction of Philips' classic objects: P, M, S, O, or I for the isotropic image."""
    element, owner = dataset.get((0x2001, 0x1004)), dataset.get((0x2001, 0x0010))
    if element is None or owner is None or "PHILIPS" not in str(owner.value).upper():
        return False
    value = element.value.decode("ascii", errors="replace") if isinstance(element.value, bytes) else str(element.value)
    return value.strip("\0 ").upper() in {"I", "ISOTROPIC"}


def _directed(dataset: Any, places: list[Any]) -> bool:
    sequences = [first_item(place, "DiffusionGradientDirectionSequence") or place for place in places]
    vector = lookup([*sequences, dataset], "DiffusionGradientOrientation", None)
    stated = [] if vector is None else [float(number) for number in np.atleast_1d(vector)]
    private = ([n for element in elements for n in _private_numbers(dataset, element)] for elements in _DIRECTIONS)
    numbers = stated or next(filter(None, private), [])
    return any(abs(number) > 1e-6 for number in numbers)
