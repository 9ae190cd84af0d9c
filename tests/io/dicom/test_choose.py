"""Which images become b0 and b1000: one contrast, kind, orientation and shell each."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import generate_uid

from dicom_builders import (
    Change,
    both,
    image,
    private,
    read_one,
    say,
    write,
    write_enhanced,
    write_series,
)
from fvv.config import PreprocessConfig
from fvv.errors import InputError


def test_the_choice_can_be_forced(tmp_path: Path, images: dict[str, np.ndarray]) -> None:
    study = generate_uid()
    for number in (7, 8):
        folder = tmp_path / str(number)
        series = write_series(folder, images["b0"] + number, b_value=0, vendor="ge", number=number, study=study)
        write_series(folder, images["b1000"], b_value=1000, vendor="ge", number=number, study=study, series=series)
    case, _ = read_one(tmp_path, series=(8,))
    np.testing.assert_array_equal(case.b0.array, images["b0"] + 8)
    with pytest.raises(InputError, match="no b0 among its series"):
        read_one(tmp_path, series=(9,))


GE = ("ORIGINAL", "PRIMARY", "OTHER")


SECONDARY = ("DERIVED", "SECONDARY", "PROCESSED")


@pytest.mark.parametrize(
    ("others", "taken"),
    [((800,), 1000), ((900,), 1000), ((750, 1250), 1000), ((500, 2000), 1000)],
)
def test_one_shell(tmp_path: Path, others: Iterable[int], taken: int) -> None:
    for b_value in (0, *others, taken):
        write(tmp_path, 100 + b_value, b_value)
    assert both(tmp_path) == (100, 100 + taken)


def test_jitter_within_a_shell_and_low_b_values(tmp_path: Path) -> None:
    for b_value in (0, 50, 990, 1000, 1005):
        write(tmp_path, 100 if b_value < 60 and b_value else 100 + b_value // 100 * 100, b_value)
    case, _ = read_one(tmp_path)
    assert case.b0.array.min() == 100
    assert case.b_value == pytest.approx(1000, abs=10)


def test_one_b800_shell_is_read_and_its_b_value_stated(tmp_path: Path) -> None:
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 800)
    assert read_one(tmp_path)[0].b_value == 800


def test_a_b_value_of_the_user_against_the_headers_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 800)
    assert read_one(tmp_path, config=PreprocessConfig(b_value=810))[0].b_value == 800
    with pytest.raises(InputError, match=r"b = 1000 s/mm\^2 was asked for, the file states 800"):
        read_one(tmp_path, config=PreprocessConfig(b_value=1000))


def test_an_adc_map_with_a_b_value_in_the_series(tmp_path: Path) -> None:
    """GE: the map is secondary, carries the tag, and has no direction where the images have one."""

    def directed(dataset: Dataset) -> None:
        for n, number in enumerate((1.0, 0.0, 0.0)):
            dataset.private_block(0x0019, "GEMS_ACQU_01", create=True).add_new(0xBB + n, "DS", number)

    write(tmp_path, 100, 0, vendor="ge", kind=GE)
    write(tmp_path, 200, 1000, vendor="ge", kind=GE, change=directed)
    write(tmp_path, 700, 1000, vendor="ge", kind=SECONDARY)
    assert both(tmp_path) == (100, 200)


@pytest.mark.parametrize("elements", [{"ImageType": ["ORIGINAL", "PRIMARY", "PHASE MAP", "P", "SE"]}])
def test_phase_images_in_the_series(tmp_path: Path, elements: dict[str, Any]) -> None:
    magnitude = ("ORIGINAL", "PRIMARY", "M_SE", "M", "SE")
    for value, b_value in ((100, 0), (200, 1000)):
        write(tmp_path, value, b_value, vendor="philips", kind=magnitude)
        write(tmp_path, value + 500, b_value, vendor="philips", change=say(**elements))
    assert both(tmp_path) == (100, 200)


def test_coronal_images_in_the_series(tmp_path: Path) -> None:
    write(tmp_path, 100, 0)
    write(tmp_path, 200, 1000)
    write(tmp_path, 900, 1000, change=say(ImageOrientationPatient=[1, 0, 0, 0, 0, -1]))
    assert both(tmp_path) == (100, 200)


ISOTROPIC: dict[str, tuple[Change, Change]] = {
    "standard": (
        say(DiffusionDirectionality="DIRECTIONAL", DiffusionGradientOrientation=[1, 0, 0]),
        say(DiffusionDirectionality="ISOTROPIC"),
    ),
    "philips": (
        private(0x2001, "Philips Imaging DD 001", 0x04, "CS", "P"),
        private(0x2001, "Philips Imaging DD 001", 0x04, "CS", "I"),
    ),
    "by direction alone": (
        private(0x0019, "SIEMENS MR HEADER", 0x0E, "FD", [0.0, 1.0, 0.0]),
        lambda _: None,
    ),
}


@pytest.mark.parametrize("maker", ISOTROPIC.values(), ids=ISOTROPIC)
def test_the_isotropic_image_alone_and_not_with_its_directions(tmp_path: Path, maker: tuple[Change, Change]) -> None:
    write(tmp_path, 100, 0)
    for value in (300, 500):
        write(tmp_path, value, 1000, change=maker[0])
    write(tmp_path, 200, 1000, change=maker[1])
    assert both(tmp_path) == (100, 200)


def test_adc_frames_of_an_enhanced_object(tmp_path: Path) -> None:
    def adc(dataset: Dataset) -> None:
        for group, kind in zip(
            dataset.PerFrameFunctionalGroupsSequence, ["NONE"] * 4 + ["TRACEW"] * 4 + ["ADC"] * 4, strict=True
        ):
            frame_type = Dataset()
            frame_type.FrameType = ["DERIVED", "PRIMARY", "DIFFUSION", kind]
            group.MRImageFrameTypeSequence = Sequence([frame_type])
        for group in dataset.PerFrameFunctionalGroupsSequence[8:]:
            group.MRDiffusionSequence[0].DiffusionBValue = 1000.0

    images = {0: image(100), 1000: image(200), 1: image(900)}
    write_enhanced(tmp_path / "e.dcm", images, number=3, study="1.2", change=adc)
    assert both(tmp_path) == (100, 200)


@pytest.mark.parametrize("timing", [{"EchoTime": 120, "RepetitionTime": 9000, "InversionTime": 2500}, {}])
def test_a_flair_with_b0_is_no_b0(tmp_path: Path, timing: dict[str, float]) -> None:
    flair = {"series": "1.2.1", "number": 3, "kind": GE, "vendor": "ge", "description": "Ax T2 FLAIR"}
    write(tmp_path, 700, 0, **flair, change=say(**timing))
    write(tmp_path, 200, 1000, vendor="ge", kind=GE, series="1.2.6", number=6)
    with pytest.raises(InputError, match="no b0"):
        read_one(tmp_path)
    write(tmp_path, 100, 0, vendor="ge", kind=GE, series="1.2.5", number=5)
    assert both(tmp_path) == (100, 200)


@pytest.mark.parametrize("description", ["Ax DWI TENSOR R2", "AX DWI + ADC", "FA_EXP dwi"])
def test_words_of_a_description_throw_nothing_away(tmp_path: Path, description: str) -> None:
    write(tmp_path, 100, 0, description=description, kind=GE, vendor="ge")
    write(tmp_path, 200, 1000, description=description, kind=GE, vendor="ge")
    assert both(tmp_path) == (100, 200)


def test_words_break_ties(tmp_path: Path) -> None:
    for number, description in ((3, "DWI ADC"), (4, "DWI")):
        for value, b_value in ((100, 0), (200, 1000)):
            write(tmp_path, value + number, b_value, description=description, series=f"1.{number}", number=number)
    assert both(tmp_path) == (104, 204)


def test_series_by_number_always_win(tmp_path: Path) -> None:
    for value, b_value in ((100, 0), (200, 1000)):
        write(tmp_path, value, b_value)
        write(tmp_path, value + 5, b_value, series="1.3", number=7, kind=("DERIVED", "PRIMARY", "DIFFUSION", "EXP"))
    assert both(tmp_path) == (100, 200)
    assert read_one(tmp_path, series=(7,))[0].b0.array.min() == 105


def test_b0_without_a_b_value(tmp_path: Path) -> None:
    """Toshiba and Canon."""
    write(tmp_path, 100, None, kind=("ORIGINAL", "PRIMARY", "GDC"))
    write(tmp_path, 200, 1000, kind=("ORIGINAL", "PRIMARY", "GDC"))
    write(tmp_path, 900, None, kind=("DERIVED", "SECONDARY", "OTHER"))
    assert both(tmp_path) == (100, 200)
