"""Folders of simulated cases: the images as any cohort has them, and simulation.json with the reference behind them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import numpy as np

from fvv.cohort.participants import PARTICIPANTS_FILE
from fvv.config import SimulateConfig
from fvv.data import Failure
from fvv.errors import InputError, OutputExistsError
from fvv.io.atomic import atomic_write
from fvv.io.case import Place
from fvv.io.listing import entries, paths
from fvv.io.nifti import write_volume
from fvv.io.ownership import claimed
from fvv.io.sealed import read_record, read_sealed, verify_files, write_sealed
from fvv.io.spool import Spooled
from fvv.io.tables import failure_of, write_table
from fvv.schemas.simulation import Simulation, case_settings
from fvv.simulator.anatomies import anatomy_files
from fvv.simulator.case import SIMULATOR_VERSION, SimulatedCase
from fvv.simulator.lesion_masks import list_masks, masks_digest
from fvv.simulator.real_heads import heads_digest
from fvv.system.fingerprint import file_sha256, fingerprint

SIMULATION_FILE = "simulation.json"
NO_SOURCES: Final[Mapping[str, str]] = MappingProxyType({})
"""Of a cohort that is made from nothing but seed and settings."""


def is_simulated(place: Place) -> bool:
    """Whether the simulator made an examination's images."""
    folder = place if isinstance(place, Path) else place.b1000.parent
    return (folder / SIMULATION_FILE).exists()


def hash_sources(config: SimulateConfig) -> dict[str, str]:
    """Hash of each kind of input that a cohort is made from, by the name of its setting.

    Raises:
        InputError: a folder, or what is needed of it, is not there.
    """
    sources = {}
    if config.lesions is not None:
        sources["lesions"] = masks_digest(list_masks(config.lesions, config.lesion_files))
    if config.heads is not None:
        sources["heads"] = heads_digest(config.heads)
    if config.anatomies is not None:
        sources["anatomies"] = fingerprint(anatomies=[file.sha256 for file in anatomy_files(config)])
    return sources


def write_simulated_case(
    folder: Path, case: SimulatedCase, config: SimulateConfig, sources: Mapping[str, str] = NO_SOURCES
) -> None:
    """Write one case's folder, whole or not at all; the same case gives the same bytes.

    Args:
        folder: to write.
        case: its images and record.
        config: settings that it was made with.
        sources: of `hash_sources`.

    Raises:
        OutputExistsError: the folder is there and holds a file that this program did not write.
    """
    images: dict[str, np.ndarray | None] = {
        "b0.nii.gz": case.b0,
        "b1000.nii.gz": case.b1000,
        "flair.nii.gz": case.flair,
        "stroke_roi.nii.gz": case.stroke,
        "flairviz_roi.nii.gz": case.flair_visible,
        "mask.nii.gz": case.brain if config.write_mask else None,
    }
    hint = "move it away, or choose another output folder"
    refuse_other_files(
        folder, images.keys() | {SIMULATION_FILE}, "not written by fvv, in a folder to be replaced", hint
    )
    with atomic_write(folder) as temporary:
        temporary.mkdir()
        written = {name: array for name, array in images.items() if array is not None}
        for name, array in written.items():
            write_volume(temporary / name, array, case.affine)
        simulation = Simulation(
            simulator_version=SIMULATOR_VERSION,
            settings=config,
            sources=dict(sources),
            case=case.record,
            files={name: file_sha256(temporary / name) for name in sorted(written)},
        )
        write_sealed(temporary / SIMULATION_FILE, simulation)


def refuse_other_files(folder: Path, ours: Collection[str], message: str, hint: str) -> None:
    """Refuse a folder with files that this program did not write; nothing in it is touched.

    Raises:
        OutputExistsError: a file is neither claimed, nor one of `ours`, nor hidden.
    """
    if folder.is_dir():
        known = {*ours, *claimed(folder)}
        for path in paths(folder):
            if path.name not in known and not path.name.startswith("."):
                raise OutputExistsError(message, file=path, hint=hint)


def refuse_other_settings(folder: Path, config: SimulateConfig, sources: Mapping[str, str] = NO_SOURCES) -> None:
    """Refuse a case that was made with other settings or inputs; one that is damaged is ours, and is made again.

    Raises:
        OutputExistsError: it was, or another version of this program made it.
    """
    try:
        content = read_sealed(folder / SIMULATION_FILE)
    except InputError:
        return
    hint = "choose another output folder, or --overwrite to replace it"
    try:
        simulation = Simulation.parse(content, folder / SIMULATION_FILE)
    except InputError as error:
        message = f"already there, made by another version: {error.message}"
        raise OutputExistsError(message, examination_id=folder.name, file=folder, hint=hint) from error
    if _made_with(simulation, config, sources):
        return
    message = "already there, made with another seed, other settings or other inputs"
    if simulation.simulator_version != SIMULATOR_VERSION:
        versions = f"version {simulation.simulator_version} of the simulator, this is version {SIMULATOR_VERSION}"
        message = f"already there, made by {versions}"
    raise OutputExistsError(message, examination_id=folder.name, file=folder, hint=hint)


def read_simulation(folder: Path) -> Simulation:
    """Read a case's simulation.json.

    Raises:
        InputError: there is none, it was edited or is damaged, or another version wrote it.
    """
    return read_record(folder / SIMULATION_FILE, Simulation)


def is_kept(folder: Path, config: SimulateConfig, sources: Mapping[str, str] = NO_SOURCES) -> bool:
    """Whether a case is there as it was written, made with these settings and inputs.

    Raises:
        InputError: it is damaged.
    """
    simulation = read_simulation(folder)
    verify_files(folder, simulation.files)
    return _made_with(simulation, config, sources)


def _made_with(simulation: Simulation, config: SimulateConfig, sources: Mapping[str, str]) -> bool:
    same = case_settings(simulation.settings) == case_settings(config) and simulation.sources == dict(sources)
    return same and simulation.simulator_version == SIMULATOR_VERSION


def write_cohort_table(root: Path, more: Iterable[str] = ()) -> tuple[Spooled[Simulation], list[Failure]]:
    """Write participants.tsv for every simulated case in a folder.

    Args:
        root: the folder; its `entries` are looked at.
        more: names of cases that were made since it was listed.

    Returns:
        The cases, sorted by name, and those that cannot be read.
    """
    damaged: list[Failure] = []

    def found() -> Iterator[Simulation]:
        names = {item.name for item in entries(root) if item.name.startswith("sim_")}
        for folder in (root / name for name in sorted(names.union(more))):
            try:
                if (folder / SIMULATION_FILE).exists():
                    yield read_simulation(folder)
            except InputError as error:
                damaged.append(failure_of(folder.name, error))

    cases = Spooled.of(found())
    write_table(root / PARTICIPANTS_FILE, map(_participant_row, cases))
    return cases, damaged


def _participant_row(simulation: Simulation) -> dict[str, str | float | None]:
    case = simulation.case
    return {
        "participant_id": case.participant_id,
        # Persons of another seed are others: models trained on the one cohort may be tested on the other. Real persons
        # are the same under every seed.
        "patient_id": case.patient_id if case.head else f"seed{simulation.settings.seed}_{case.patient_id}",
        "site": case.site,
        "onset_h": None if case.onset_h is None else round(case.onset_h, 2),
        "lesion_volume_ml": round(case.lesion_volume_ml, 3),
        "flair_visible_ml": round(case.flair_visible_ml, 3),
        "field_strength_t": case.field_strength_t,
        "dwi_flair_mismatch": None if case.dwi_flair_mismatch is None else int(case.dwi_flair_mismatch),
    }
