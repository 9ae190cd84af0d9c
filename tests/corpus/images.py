"""Images that are damaged, that lie, or that are odd but right."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import math
import os
import shutil
import struct
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np

from corpus.nifti_bytes import (
    DATATYPE,
    DIM,
    EXTENSION,
    MAGIC,
    PIXDIM,
    QFORM,
    QUATERN,
    SCL_SLOPE,
    VOX_OFFSET,
    Breaker,
    affine,
    bomb,
    both,
    content,
    cut,
    flip,
    header,
    sparse,
    void,
    voxels,
)
from corpus.registry import Place, Variant
from fvv.config import PreprocessConfig
from fvv.data import Participant
from fvv.recipes.labelled import files_reachable


@dataclass(frozen=True, slots=True)
class Damage:
    """What is done to one file, and what a careful reader says of it.

    Attributes:
        name: of the damage.
        breaker: does it.
        says: words of the refusal; empty where the file is odd but sound and must be read.
        everywhere: done to every image of the patient, which then still share a grid.
    """

    name: str
    breaker: Breaker
    says: str = ""
    everywhere: bool = False

    def do(self, patient: Path) -> None:
        """Break a patient's folder."""
        for path in sorted(patient.glob("*.nii.gz")) if self.everywhere else [patient / "b1000.nii.gz"]:
            self.breaker(path)


def _moved(path: Path, name: str) -> Path:
    return path.rename(path.with_name(name))


def _replaced_by(make: Callable[[Path], object]) -> Breaker:
    def break_it(path: Path) -> None:
        path.unlink()
        make(path)

    return break_it


def _zipped(path: Path) -> None:
    data, stream = path.read_bytes(), io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("b1000.nii", data)
    path.write_bytes(stream.getvalue())


def _recompressed(compress: Callable[[bytes], bytes]) -> Breaker:
    return lambda path: void(path.write_bytes(compress(gzip.decompress(path.read_bytes()))))


def _big_endian(path: Path) -> None:
    image = nib.load(path)
    swapped = nib.Nifti1Header(endianness=">")
    swapped.set_data_dtype(">f4")
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, header=swapped), path)


def _nifti2(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti2Image(np.asarray(image.dataobj), image.affine), path)


def _scaled(path: Path) -> None:
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.asarray(image.dataobj), image.affine, dtype="i2"), path)


def _extended(path: Path) -> None:
    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"made manually"))
    nib.save(image, path)


def _extension_bomb(path: Path) -> None:
    """An extension of gigabytes of zeros, which compressed are a thousandth, before the voxels."""
    raw = gzip.decompress(path.read_bytes())
    start = bytearray(raw[:352])
    start[348] = 1
    struct.pack_into("<f", start, VOX_OFFSET, 352 + 16)
    members = 120
    extension = gzip.compress(bytes(start) + struct.pack("<2i", members * 2**24, 6))
    path.write_bytes(extension + gzip.compress(bytes(2**24), 9) * members + gzip.compress(raw[352:]))


def _typed(code: int, itemsize_bits: int) -> Breaker:
    return header(DATATYPE, "hh", code, itemsize_bits)


def _rgb(path: Path) -> None:
    image = nib.load(path)
    rgb = np.zeros(image.shape, np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))
    nib.save(nib.Nifti1Image(rgb, image.affine), path)


def _nan_at_one(array: np.ndarray) -> np.ndarray:
    array[30, 30, 4] = math.nan
    return array


def _inf_at_one(array: np.ndarray) -> np.ndarray:
    array[30, 30, 4] = -math.inf
    return array


_SHEAR = np.array([[1, 0.3, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], dtype=float)

DAMAGED = (
    Damage("empty-file", content(b""), "not a readable NIfTI"),
    Damage("three-bytes", content(b"\x1f\x8b\x08"), "b1000"),
    Damage("text", content(b"this is no image\n" * 50), "Not a gzipped file"),
    Damage("json", content(b"{}"), "Not a gzipped file"),
    Damage("png", content(b"\x89PNG\r\n\x1a\n" + bytes(400)), "Not a gzipped file"),
    Damage("zeros", content(bytes(4000)), "Not a gzipped file"),
    Damage("gzip-of-nothing", content(gzip.compress(b"")), "not a readable NIfTI"),
    Damage("gzip-of-text", content(gzip.compress(b"this is no image\n" * 50)), "not a readable NIfTI"),
    Damage("gzip-of-short-header", _recompressed(lambda data: gzip.compress(data[:200])), "not a readable NIfTI"),
    Damage("gzip-of-header-alone", _recompressed(lambda data: gzip.compress(data[:352])), "the header claims"),
    Damage("xz-in-place-of-gzip", _recompressed(lzma.compress), "Not a gzipped file"),
    Damage("bz2-in-place-of-gzip", _recompressed(bz2.compress), "Not a gzipped file"),
    Damage("zip-in-place-of-gzip", _zipped, "Not a gzipped file"),
    Damage("gzip-twice", _recompressed(lambda data: gzip.compress(gzip.compress(data))), "not a readable NIfTI"),
    Damage("not-compressed-but-gz", lambda path: void(path.write_bytes(gzip.decompress(path.read_bytes()))), "b1000"),
    Damage("compressed-but-nii", lambda path: void(_moved(path, "b1000.nii")), "not a readable NIfTI"),
    Damage("cut-at-a-tenth", cut(0.1), "damaged or cut short"),
    Damage("cut-at-half", cut(0.5), "damaged or cut short"),
    Damage("cut-before-checksum", cut(last=8), "damaged or cut short"),
    Damage("cut-by-one-byte", cut(last=1), "damaged or cut short"),
    *(Damage(f"bit-flipped-at-{share:g}", flip(share), "damaged") for share in (0.15, 0.3, 0.45, 0.6, 0.75, 0.9)),
    Damage("bit-flipped-in-checksum", flip(-6), "damaged"),
    Damage("bit-flipped-in-length", flip(-2), "damaged"),
    Damage("bit-flipped-in-gzip-magic", flip(0.0), "b1000"),
    Damage("wrong-magic", header(MAGIC, "4s", b"abcd"), "not a readable NIfTI"),
    Damage("no-dimension", header(DIM, "h", 0), "b1000"),
    Damage("eight-dimensions", header(DIM, "h", 8), "b1000"),
    Damage("negative-dimension", header(DIM, "4h", 3, -64, 64, 10), "b1000"),
    Damage("zero-dimension", header(DIM, "4h", 3, 64, 0, 10), "b1000"),
    Damage("two-dimensions", header(DIM, "4h", 2, 64, 640, 1), "3D"),
    Damage("terabytes", header(DIM, "4h", 3, 32767, 32767, 32767), "claims"),
    Damage("exabytes", header(DIM, "8h", 7, *[32767] * 7), "claims"),
    Damage("one-slice-too-many", header(DIM, "4h", 3, 64, 64, 11), "holds less"),
    Damage("one-slice-too-few", header(DIM, "4h", 3, 64, 64, 9), "holds more"),
    Damage("half-the-columns", header(DIM, "4h", 3, 32, 64, 10), "holds more"),
    Damage("complex", _typed(32, 64), "data type"),
    Damage("rgb", _rgb, "data type"),
    Damage("rgba", _typed(2304, 32), "data type"),
    Damage("no-type", _typed(0, 0), "b1000"),
    Damage("one-bit-type", _typed(1, 1), "b1000"),
    Damage("unknown-type", _typed(9999, 16), "b1000"),
    Damage("type-of-twice-the-size", _typed(64, 64), "holds less"),
    Damage("type-of-half-the-size", _typed(4, 16), "holds more"),
    Damage("infinite-intercept", header(SCL_SLOPE, "2f", 1.0, math.inf), "b1000"),
    Damage("data-far-beyond-the-file", header(VOX_OFFSET, "f", 1e9), "holds less"),
    Damage("data-at-infinity", header(VOX_OFFSET, "f", math.inf), "b1000"),
    Damage("data-at-nan", header(VOX_OFFSET, "f", math.nan), "b1000"),
    Damage("data-before-the-file", header(VOX_OFFSET, "f", -400.0), "b1000"),
    Damage("data-inside-the-header", header(VOX_OFFSET, "f", 100.0), "b1000"),
    Damage("extension-of-terabytes", header(EXTENSION, "4B2i", 1, 0, 0, 0, 2**31 - 16, 6), "b1000"),
    Damage("extension-bomb", _extension_bomb, "extension of the header claims"),
    Damage(
        "extensions-of-gigabytes",
        both(header(EXTENSION, "4B2i", 1, 0, 0, 0, 2**30, 6), header(VOX_OFFSET, "f", 2.0**31)),
        "bytes of extensions",
    ),
    Damage("voxels-in-another-file", header(MAGIC, "4s", b"ni1"), "not a readable NIfTI"),
    Damage("long-and-thin", voxels(lambda a: np.zeros((1024, 2, 30))), "1024 x 2", everywhere=True),
    Damage("more-slices-than-a-head", voxels(lambda a: np.zeros((16, 16, 1000))), "1000 axial slices", everywhere=True),
    Damage("singular-affine", affine(lambda a: a * [[1], [1], [0], [1]]), "singular", everywhere=True),
    Damage("zero-affine", affine(lambda a: a * 0), "singular", everywhere=True),
    Damage("nan-affine", affine(lambda a: a * math.nan), "affine", everywhere=True),
    Damage("infinite-affine", affine(lambda a: a * math.inf), "affine", everywhere=True),
    Damage("voxels-of-two-sizes", header(PIXDIM + 4, "3f", 1.0, 1.0, 10.0), "s-form", everywhere=True),
    Damage("sheared-affine", affine(lambda a: a @ _SHEAR), "shear", everywhere=True),
    Damage(
        "zero-voxel-size",
        both(header(QFORM, "hh", 1, 0), header(PIXDIM, "4f", 1, 0, 0, 0)),
        "voxel size",
        everywhere=True,
    ),
    Damage(
        "nan-voxel-size",
        both(header(QFORM, "hh", 1, 0), header(PIXDIM, "4f", 1, *[math.nan] * 3)),
        "voxel size",
        everywhere=True,
    ),
    Damage(
        "impossible-quaternion",
        both(header(QFORM, "hh", 1, 0), header(QUATERN, "3f", 5, 5, 5)),
        "b1000",
        everywhere=True,
    ),
    Damage("two-volumes", voxels(lambda a: np.stack([a, a], 3)), "--b1000-index"),
    Damage("five-dimensions", voxels(lambda a: np.stack([a, a], 3)[..., None, :]), "b1000"),
    Damage("zeros-behind-a-bomb", bomb(2**33), "holds more"),
    Damage("terabyte-of-truth", bomb(2**33, (2048, 2048, 512)), "largest"),
    Damage("sparse-giant", sparse((4096, 4096, 512)), "largest"),
    Damage("long-thin-giant", bomb(2**28, (32767, 64, 10)), "largest"),
    Damage("folder-in-place-of-file", _replaced_by(Path.mkdir), "folder"),
    Damage("symlink-to-itself", _replaced_by(lambda path: path.symlink_to(path.name)), "b1000"),
    Damage("symlink-to-nothing", _replaced_by(lambda path: path.symlink_to("not-there")), "b1000"),
    Damage("symlink-to-zeros-without-end", _replaced_by(lambda path: path.symlink_to("/dev/zero")), "b1000"),
    Damage("named-pipe", _replaced_by(os.mkfifo), "b1000"),
    Damage("missing", Path.unlink, "missing"),
    Damage("upper-case-name", lambda path: void(_moved(path, "B1000.NII.GZ")), "missing"),
    Damage("both-nii-and-nii-gz", lambda path: void(shutil.copy(path, path.with_name("b1000.nii"))), "both there"),
    Damage("bval-of-other-length", both(voxels(lambda a: np.stack([a, a], 3)), lambda p: _bval(p, "0")), "b-values"),
    Damage("bval-of-words", both(voxels(lambda a: np.stack([a, a], 3)), lambda p: _bval(p, "low high")), "numbers"),
    Damage("bval-binary", both(voxels(lambda a: np.stack([a, a], 3)), lambda p: _bval(p, "\xff\xfe\x00")), "numbers"),
    Damage("bval-of-nan", both(voxels(lambda a: np.stack([a, a], 3)), lambda p: _bval(p, "nan nan")), "b = 1000"),
    Damage("bval-without-1000", both(voxels(lambda a: np.stack([a, a], 3)), lambda p: _bval(p, "0 3000")), "b = 1000"),
)
UNITS = (
    Damage("metres", affine(lambda a: a @ np.diag([1e-3, 1e-3, 1e-3, 1])), "mL", everywhere=True),
    Damage("micrometres", affine(lambda a: a @ np.diag([1e3, 1e3, 1e3, 1])), "mL", everywhere=True),
)
NOT_FINITE = (
    Damage("one-nan", voxels(_nan_at_one), "not finite"),
    Damage("one-infinity", voxels(_inf_at_one), "not finite"),
    Damage("all-nan", voxels(lambda a: a * math.nan), "not finite"),
)
ODD = (
    Damage("big-endian", _big_endian),
    Damage("nifti-2", _nifti2),
    Damage("int16-with-slope", _scaled),
    Damage("float64", voxels(lambda a: a, "f8")),
    Damage("uint16", voxels(lambda a: a, "u2")),
    Damage("slope-zero", header(SCL_SLOPE, "2f", 0.0, 5.0)),
    Damage("slope-infinite", header(SCL_SLOPE, "2f", math.inf, 0.0)),
    Damage("header-size-wrong", header(0, "i", 999)),
    Damage("extension-of-nothing", header(EXTENSION, "4B", 1, 0, 0, 0)),
    Damage("slope-nan", header(SCL_SLOPE, "2f", math.nan, math.nan)),
    Damage("one-trailing-volume", voxels(lambda a: a[..., None])),
    Damage("two-trailing-axes", voxels(lambda a: a[..., None, None])),
    Damage("with-extension", _extended),
    Damage("q-form-alone", header(QFORM, "hh", 1, 0)),
    Damage("several-gzip-members", _recompressed(lambda d: gzip.compress(d[:9000]) + gzip.compress(d[9000:]))),
    Damage("wrong-bits-per-voxel", header(DATATYPE + 2, "h", 77)),
    Damage("bval-in-order", both(voxels(lambda a: np.stack([a * 2, a], 3)), lambda p: _bval(p, "0 1000"))),
    Damage("not-compressed", both(_recompressed(lambda d: d), lambda p: void(_moved(p, "b1000.nii")))),
)


def _bval(path: Path, text: str) -> None:
    (path.parent / "b1000.bval").write_bytes(text.encode("latin-1"))


def variants() -> Iterator[Variant]:
    """Damaged files before three verbs; odd ones must give the very numbers of the plain file."""
    for damage in (*DAMAGED, *NOT_FINITE):
        says = damage.says or "not finite"
        yield Variant(f"verify-{damage.name}", "verify", _verify(damage), "failure", says)
    for damage in (*DAMAGED[::4], *UNITS):
        yield Variant(f"prepare-{damage.name}", "prepare", _prepare(damage), "failure", damage.says, also=left_out)
    for damage in DAMAGED[1::3]:
        yield Variant(f"predict-{damage.name}", "predict", _predict(damage), "failure", damage.says, also=unmeasured)
    for damage in (*UNITS, *NOT_FINITE[-1:]):
        yield Variant(f"predict-{damage.name}", "predict", _predict(damage), "not assessable", also=no_volume)
    for damage in ODD:
        yield Variant(f"predict-{damage.name}", "predict", _predict(damage), "success", also=_same_as_plain)


def _verify(damage: Damage) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        damage.do(place.cohort / "p1")
        return ["verify", "-i", str(place.cohort), "--workers", "1"]

    return build


def _prepare(damage: Damage) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        damage.do(place.cohort / "p1")
        shutil.copytree(place.base / "prepared", place.out)
        return ["prepare", "-i", str(place.cohort), "-o", str(place.out), "-k", "3", "--workers", "1"]

    return build


def _predict(damage: Damage) -> Callable[[Place], list[str]]:
    def build(place: Place) -> list[str]:
        shutil.rmtree(place.new / "n1")
        shutil.copytree(place.new / "n0", place.new / "n1")
        damage.do(place.new / "n1")
        return ["predict", str(place.new), "-m", str(place.models), "-o", str(place.out), "--device", "cpu"]

    return build


def left_out(place: Place) -> None:
    """Not learned from where its files were found bad; where they are missing, as it was. Never deleted."""
    assert files_reachable(place.cohort / "p1", Participant("p1", "p1"), PreprocessConfig()) == (
        "p1" not in (place.out / "folds.tsv").read_text()
    )
    assert "p1" in (place.out / "failures.csv").read_text()
    assert (place.out / "cases" / "p1.zarr").exists()


def unmeasured(place: Place) -> None:
    assert "n1" not in (place.out / "results.csv").read_text()
    assert "n1" in (place.out / "failures.csv").read_text()
    assert (place.out / "n0" / "results.json").exists()


def no_volume(place: Place) -> None:
    answer = json.loads((place.out / "n1" / "results.json").read_text())
    assert answer["decision"] == "not assessable"
    assert answer["FlairVizVolume"] is None
    assert not (place.out / "n1" / "predictions.nii.gz").exists()


def _same_as_plain(place: Place) -> None:
    plain, odd = (nib.load(place.out / name / "predictions.nii.gz") for name in ("n0", "n1"))
    np.testing.assert_array_equal(np.asarray(plain.dataobj), np.asarray(odd.dataobj))
    assert np.asarray(plain.dataobj)[..., 1].any()
