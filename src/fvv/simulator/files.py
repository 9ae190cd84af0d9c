"""Folders of simulated cases: the images as any cohort has them, and simulation.json with the truth behind them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fvv.cohort.participants import PARTICIPANTS_FILE, write_participants
from fvv.data import Failure
from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import atomic_write
from fvv.io.manifest import failure_of
from fvv.io.nifti import write_volume
from fvv.io.ownership import claimed
from fvv.io.sealed import SEAL, sealed, write_sealed
from fvv.simulator.case import SimulatedCase
from fvv.system.fingerprint import file_sha256
from fvv.system.regular import read_regular_text, refuse_irregular

SIMULATION_FILE = "simulation.json"
_IMAGES = ("b0", "b1000", "flair", "stroke_roi", "flairviz_roi", "mask")


def write_simulated_case(
    folder: Path, case: SimulatedCase, settings: dict[str, Any], *, write_mask: bool, overwrite: bool
) -> None:
    """Write one case's folder, whole or not at all; the same case gives the same bytes.

    Args:
        folder: of the case.
        case: images and truth.
        settings: what the case depends on, kept beside it.
        write_mask: add mask.nii.gz, the true brain.
        overwrite: replace the folder.

    Raises:
        OutputExistsError: it holds a file that this program did not write.
    """
    _refuse_other_files(folder)
    images = {
        "b0": case.b0,
        "b1000": case.b1000,
        "flair": case.flair,
        "stroke_roi": case.stroke,
        "flairviz_roi": case.flair_visible,
    }
    if write_mask:
        images["mask"] = case.brain
    with atomic_write(folder, overwrite=overwrite) as temporary:
        temporary.mkdir()
        for name, array in images.items():
            write_volume(temporary / f"{name}.nii.gz", array, case.affine)
        files = {path.name: file_sha256(path) for path in sorted(temporary.iterdir())}
        content = {"settings": settings, "case": asdict(case.record), "files": files}
        write_sealed(temporary / SIMULATION_FILE, content)


def _refuse_other_files(folder: Path) -> None:
    if folder.is_dir():
        ours = {SIMULATION_FILE, *(f"{name}.nii.gz" for name in _IMAGES), *claimed(folder)}
        for path in sorted(folder.iterdir()):
            if path.name not in ours and not path.name.startswith("."):
                hint = "move it away, or choose another output folder"
                raise OutputExistsError("not written by fvv, in a folder to be replaced", file=path, hint=hint)


def read_simulation(folder: Path) -> dict[str, Any] | None:
    """Read a case's simulation.json: keys settings and case; None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / SIMULATION_FILE
    if not (path.exists() or path.is_symlink()):
        return None
    try:
        content = json.loads(read_regular_text(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}", file=path, hint="delete the folder or use --overwrite") from error
    if not isinstance(content, dict) or not {"settings", "case"} <= content.keys():
        raise InputError("expected settings and case", file=path, hint="delete the folder or use --overwrite")
    return content


def verify_simulated(folder: Path, content: dict[str, Any]) -> None:
    """Compare a case with what was written.

    Args:
        folder: of the case.
        content: of its simulation.json.

    Raises:
        InputError: simulation.json was edited, or a file is missing or differs.
    """
    path = folder / SIMULATION_FILE
    if content.get(SEAL) != sealed(content)[SEAL] or not isinstance(content.get("files"), dict):
        raise InputError("edited or damaged: its content differs from its own hash", file=path)
    for name, sha256 in content["files"].items():
        refuse_irregular(folder / name)
        if file_sha256(folder / name) != sha256:
            raise InputError("differs from the file that was written", file=folder / name)


def write_cohort_table(root: Path) -> tuple[list[dict[str, Any]], list[Failure]]:
    """Write participants.tsv for every simulated case in a folder.

    Args:
        root: of the cohort.

    Returns:
        The truth of each case, as in simulation.json, with its seed, sorted by name; and cases that cannot be read.
    """
    cases, damaged = [], []
    for folder in sorted(path for path in root.glob("sim_*") if path.is_dir()):
        try:
            content = read_simulation(folder)
            if content is not None:
                cases.append({**content["case"], "seed": content["settings"]["seed"]})
        except (InputError, KeyError, TypeError) as error:
            said = error if isinstance(error, InputError) else InputError("damaged", file=folder / SIMULATION_FILE)
            damaged.append(failure_of(folder.name, said))
    write_participants(root / PARTICIPANTS_FILE, [_participant_row(case) for case in cases])
    return cases, damaged


def _participant_row(case: dict[str, Any]) -> dict[str, Any]:
    label, onset_h = case["dwi_flair_mismatch"], case["onset_h"]
    return {
        "participant_id": case["participant_id"],
        # Persons of another seed are others: models trained on the one cohort may be tested on the other.
        "patient_id": f"seed{case['seed']}_{case['patient_id']}",
        "site": case["site"],
        "onset_h": None if onset_h is None else round(onset_h, 2),
        "lesion_volume_ml": round(case["lesion_volume_ml"], 3),
        "flair_visible_ml": round(case["flair_visible_ml"], 3),
        "field_strength_t": case["field_strength_t"],
        "dwi_flair_mismatch": None if label is None else int(label),
    }
