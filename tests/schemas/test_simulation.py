"""simulation.json: what is read is what was written, and nothing else is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fvv.config import SimulateConfig
from fvv.errors import InputError
from fvv.io.sealed import read_sealed, write_sealed
from fvv.schemas.simulation import Simulation, case_settings
from fvv.simulator.files import read_simulation
from simulations import write_simulation


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = write_simulation(tmp_path / "sim_0001", old_damage=("old_infarct",), onset_h=None)
    read = read_simulation(tmp_path / "sim_0001")
    assert read == written
    assert read.settings.seed == 7


def test_settings_of_the_cohort_alone_are_not_stored(tmp_path: Path) -> None:
    write_simulation(tmp_path)
    stored = read_sealed(tmp_path / "simulation.json")["settings"]
    assert "seed" in stored
    assert not {"cases", "only", "compute"} & stored.keys()


def test_where_inputs_lie_is_not_stored(tmp_path: Path) -> None:
    inputs = {"lesions": tmp_path / "masks", "lesion_files": ("a.nii.gz",)}
    inputs |= {"anatomies": tmp_path / "heads", "anatomy_files": ("a.nii.gz",)}
    assert not inputs.keys() & case_settings(SimulateConfig(**inputs)).keys()


def test_a_file_of_version_1_is_read(tmp_path: Path) -> None:
    written = write_simulation(tmp_path)
    content = read_sealed(tmp_path / "simulation.json")
    del content["sources"], content["case"]["lesion_mask"], content["case"]["anatomy"]
    assert Simulation.parse({**content, "schema_version": 1}, tmp_path / "simulation.json") == written


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 99}, "newer version"),
        ({"schema_version": None}, "expected schema_version"),
        ({"case": {}}, "case.participant_id: Field required"),
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"files": {"../b0.nii.gz": "0"}}, "files"),
    ],
)
def test_another_content_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    write_simulation(tmp_path)
    file = tmp_path / "simulation.json"
    content = {**read_sealed(file), **change}
    with pytest.raises(InputError, match=message):
        Simulation.parse(content, file)
    file.write_text(file.read_text().replace("lacune", "large_mca"))
    with pytest.raises(InputError, match="edited or damaged"):
        read_simulation(tmp_path)
    write_sealed(file, content)
    with pytest.raises(InputError, match=message):
        read_simulation(tmp_path)
