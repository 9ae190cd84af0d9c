"""Folders of simulated cases: the images as any cohort has them, and simulation.json with the truth behind them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fvv.errors import InputError
from fvv.imaging.phantom.case import SimulatedCase
from fvv.io.atomic import atomic_write, write_text
from fvv.io.nifti import write_volume

SIMULATION_FILE = "simulation.json"


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
    """
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
        content = {"settings": settings, "case": asdict(case.record)}
        write_text(temporary / SIMULATION_FILE, json.dumps(content, indent=2, sort_keys=True) + "\n")


def read_simulation(folder: Path) -> dict[str, Any] | None:
    """Read a case's simulation.json: keys settings and case; None where there is none.

    Raises:
        InputError: the file is damaged.
    """
    path = folder / SIMULATION_FILE
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"cannot be read: {error}", file=path, hint="delete the folder or use --overwrite") from error
    if not isinstance(content, dict) or not {"settings", "case"} <= content.keys():
        raise InputError("expected settings and case", file=path, hint="delete the folder or use --overwrite")
    return content
