"""Mutates sound files and reads them, over and over: `python -m fuzz.run --minutes 10`.

A reader may give its value or an `FvvError`. Anything else, more than 2 GB or more than ten seconds is a fault: the
file is kept and named.
"""

from __future__ import annotations

import argparse
import gzip
import random
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from builders import write_onnx, write_patient
from dicom_builders import write_enhanced, write_series
from fvv.cohort.participants import read_participants
from fvv.config import PreprocessConfig, load_config
from fvv.errors import FvvError
from fvv.io.bundle import BUNDLE_FILE, ModelBundle
from fvv.io.dicom.group import examinations_of, index_place
from fvv.io.dicom.stack import read_dicom
from fvv.io.folds import read_folds
from fvv.io.nifti import read_volume
from fvv.io.store import CaseStore
from fvv.simulator.files import read_simulation
from fvv.stages.convert import read_chosen_checkpoints
from simulations import write_simulation
from store_builders import PROFILE, write_store

MEMORY, SECONDS = 2 * 2**30, 10
INTERESTING = (
    b"\x00",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"-",
    b"[",
    b"{",
    b'"',
    b"\n",
    b"\t",
    b",",
    b"&a *a",
    b"!!",
    b"1e999",
)


@dataclass(frozen=True, slots=True)
class Target:
    """A sound file and who reads it.

    Attributes:
        name: of the target.
        path: the file, rewritten with every mutation.
        sound: its bytes before.
        read: the reader.
        inside: mutate what is compressed, not the compression.
    """

    name: str
    path: Path
    sound: bytes
    read: Callable[[], object]
    inside: bool = False


def targets(folder: Path) -> list[Target]:
    """Every reader of the package with a sound file."""
    rng = np.random.default_rng(0)
    write_patient(folder / "cohort" / "p0", rng)
    image = folder / "cohort" / "p0" / "b0.nii.gz"
    four = folder / "four.nii.gz"
    write_four_dimensional(image, four)
    tables = {
        folder / "cohort" / "participants.tsv": b"participant_id\tpatient_id\tsite\tdwi_flair_mismatch\np0\ta\tx\t1\n",
        folder / "folds.tsv": b"examination_id\tperson_id\tfold_0\np0\ta\ttrain\np1\tb\ttest\np2\tc\tvalid\n",
        folder
        / "settings.yaml": b"prepare: {kfolds: 3, seed: 1}\ntrain:\n  name: x\n  network: {widths: [4, 4, 8, 8]}\n",
        folder / "choices.yaml": b"0: a/best.ckpt\n1: b/best.ckpt\n",
    }
    for path, content in tables.items():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    write_simulation(folder / "case")
    write_onnx(folder / "models" / "model1.onnx")
    write_bundle(folder / "models")
    store = write_store(folder / "store", patients=4)
    case = folder / "store" / "cases" / "secret_0.zarr"
    readers: list[tuple[str, Path, Callable[[], object], bool]] = [
        ("image inside gzip", image, lambda: read_volume(image), True),
        ("image", image, lambda: read_volume(image), False),
        ("4D image", four, lambda: read_volume(four, target_b=1000.0), True),
        ("b-values", folder / "four.bval", lambda: read_volume(four, target_b=0.0), False),
        *(
            (path.name, path, reader, False)
            for path, reader in zip(
                tables,
                (
                    lambda: read_participants(folder / "cohort"),
                    lambda: read_folds(folder / "folds.tsv"),
                    lambda: load_config(folder / "settings.yaml"),
                    lambda: read_chosen_checkpoints(folder / "choices.yaml"),
                ),
                strict=True,
            )
        ),
        ("simulation", folder / "case" / "simulation.json", lambda: read_simulation(folder / "case"), False),
        ("bundle", folder / "models" / BUNDLE_FILE, lambda: ModelBundle.open(folder / "models"), False),
        ("store", folder / "store" / "store.json", lambda: CaseStore.open(folder / "store"), False),
        ("case", case / "zarr.json", lambda: store.read("secret_0"), False),
        ("array", case / "images" / "zarr.json", lambda: store.read("secret_0"), False),
        *dicom_readers(folder, rng),
        ("voxels", case / "images" / "c" / "0" / "0" / "0" / "0", lambda: store.read("secret_0"), False),
    ]
    return [Target(name, path, path.read_bytes(), read, inside) for name, path, read, inside in readers]


def dicom_readers(folder: Path, rng: np.random.Generator) -> list[tuple[str, Path, Callable[[], object], bool]]:
    """Two slices of b0 and b1000: a file each, one file of all, a zip file."""
    images = {b: rng.integers(1, 999, (8, 8, 2), dtype=np.uint16) for b in (0.0, 1000.0)}
    for number, (b_value, image) in enumerate(images.items(), start=1):
        write_series(folder / "dicom", image, b_value=b_value, vendor="standard", number=number, study="1.2.3")
    (folder / "enhanced").mkdir()
    write_enhanced(folder / "enhanced" / "all.dcm", images, number=1, study="1.2.3")
    with zipfile.ZipFile(folder / "dicom.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted((folder / "dicom").iterdir()):
            archive.write(file, file.name)
    paths = {
        folder / "dicom" / "s002_b1000.0_001.dcm": folder / "dicom",
        folder / "enhanced" / "all.dcm": folder / "enhanced",
        folder / "dicom.zip": folder / "dicom.zip",
    }
    return [(f"DICOM {file.name}", file, partial(read_all, path), False) for file, path in paths.items()]


def read_all(place: Path) -> None:
    """Every examination of a folder or zip file; a changed byte may make two people of one."""
    for one in examinations_of(place, index_place(place)):
        read_dicom(one, name="p", config=PreprocessConfig())


def write_four_dimensional(image: Path, four: Path) -> None:
    """Two volumes and their b-values."""
    data = bytearray(gzip.decompress(image.read_bytes()))
    struct.pack_into("<5h", data, 40, 4, *struct.unpack_from("<3h", data, 42), 2)
    four.write_bytes(gzip.compress(bytes(data) + bytes(data[352:]), 1))
    four.with_name("four.bval").write_text("0 1000\n")


def write_bundle(folder: Path) -> None:
    """A bundle.json for one model."""
    from fvv.io.bundle import write_manifest  # noqa: PLC0415
    from fvv.schemas.bundle import BundleManifest, ModelEntry  # noqa: PLC0415
    from fvv.system.fingerprint import file_sha256  # noqa: PLC0415

    entry = ModelEntry(file="model1.onnx", sha256=file_sha256(folder / "model1.onnx"), fold=0, trained_on=("a",))
    write_manifest(folder, BundleManifest(software="x", run_name="x", profile=PROFILE, models=(entry,)))


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to four random changes; half of them in the first 400 bytes, where headers are."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not changed:
            break
        at = rng.randrange(min(400, len(changed)) if rng.random() < 0.5 else len(changed))
        kind = rng.randrange(6)
        if kind == 0:
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at : at + rng.randint(1, 8)] = rng.randbytes(rng.randint(1, 8))
        elif kind == 2:
            changed[at:at] = rng.choice(INTERESTING) * rng.choice((1, 1, 2, 300))
        elif kind == 3:
            del changed[at : at + rng.choice((1, 2, 8, 100, len(changed)))]
        elif kind == 4:
            changed[at : at + 8] = struct.pack("<d", rng.choice((0.0, -1.0, 1e300, float("nan"), float("inf"))))
        else:
            changed[at : at + 2] = struct.pack("<h", rng.choice((0, 1, -1, 7, 32767, -32768)))
    return bytes(changed)


def main(argv: Sequence[str] | None = None) -> int:
    """Print a line per target; 1 where a reader did something else than read or refuse."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-faults"), help="where files that broke a reader go")
    options = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    rng = random.Random(options.seed)  # noqa: S311 - mutations, not secrets
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, _too_long)
    reads, refusals, faults = Counter[str](), Counter[str](), 0
    with tempfile.TemporaryDirectory(prefix="fvv-fuzz-") as name:
        everything = targets(Path(name))
        end = time.monotonic() + 60 * options.minutes
        while time.monotonic() < end:
            target = rng.choice(everything)
            data = _mutated(target, rng)
            target.path.write_bytes(data)
            signal.alarm(SECONDS)
            try:
                target.read()
            except FvvError:
                refusals[target.name] += 1
            except Exception:  # noqa: BLE001 - this is what we are looking for
                faults += 1
                print(f"FAULT in {target.name}: {traceback.format_exc()}", flush=True)
                options.keep.mkdir(exist_ok=True)
                (options.keep / f"{faults}-{target.path.name}").write_bytes(data)
            finally:
                signal.alarm(0)
                target.path.write_bytes(target.sound)
            reads[target.name] += 1
    for name in reads:
        print(f"{name:<28}{reads[name]:>8} reads, {refusals[name]:>8} refused")
    print(f"{sum(reads.values())} reads, {faults} faults, {options.minutes:g} minutes, seed {options.seed}")
    return 1 if faults else 0


def _mutated(target: Target, rng: random.Random) -> bytes:
    if target.inside:
        return gzip.compress(mutate(gzip.decompress(target.sound), rng), 1)
    return mutate(target.sound, rng)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s")


if __name__ == "__main__":
    sys.exit(main())
