"""The wheel: small, with a model in it, and enough for a prediction without torch and without network."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from builders import write_patient
from fvv.config import PROFILES, ComputeConfig, load_config
from fvv.imaging.postprocess import in_words
from fvv.io.bundle import ModelBundle
from fvv.io.shipped import shipped_bundle
from fvv.stages.doctor import doctor

ROOT = Path(__file__).resolve().parents[1]
LARGEST_WHEEL_MB, LARGEST_BUNDLE_MB = 20, 9
BEYOND_CORE = (
    "torch",
    "lightning",
    "wandb",
    "tensorboard",
    "skimage",
    "zarr",
    "onnx",
    "nilearn",
    "sklearn",
    "statsmodels",
    "pydicom",
    "highdicom",
    "SimpleITK",
)
PREDICT = f"""
import socket, sys

class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BEYOND_CORE!r}:
            raise ModuleNotFoundError(f"{{name}} is no part of the core", name=name)

def refuse(*_):
    raise OSError("no network")

sys.meta_path.insert(0, Refused())
socket.socket.connect = socket.getaddrinfo = refuse
from fvv.cli import main
sys.exit(main(["predict", "anna", "-o", "out", "--device", "cpu"]))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy of the sources."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = ["pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--no-index", "-q", "-w", "dist"]
    subprocess.run([sys.executable, "-m", *command], cwd=folder, check=True)
    (built,) = (folder / "dist").glob("fvv-*.whl")
    return built


def test_the_wheel_holds_its_data_and_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < LARGEST_WHEEL_MB * 1e6
    names = zipfile.ZipFile(wheel).namelist()
    for needed in ("fvv/configs/demo.yaml", "fvv/configs/model.yaml", "fvv/py.typed"):
        assert needed in names
    assert sum(name.endswith("/bundle.json") for name in names) == 1


def test_a_prediction_with_the_core_alone_and_no_network(wheel: Path, tmp_path: Path, rng: np.random.Generator) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    write_patient(tmp_path / "anna", rng, mask=False)
    run = subprocess.run(
        [sys.executable, "-c", PREDICT], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path / "site")}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert "the model in the package" in run.stderr
    said = json.loads((tmp_path / "out" / "anna" / "results.json").read_text())
    assert said["models"]


def test_the_shipped_bundle_is_sound_and_says_what_it_is() -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    bundle = ModelBundle.open(shipped)  # Every file is there and unchanged.
    assert sum(file.stat().st_size for file in shipped.iterdir()) < LARGEST_BUNDLE_MB * 1e6
    assert "never on a patient" in bundle.manifest.notice
    assert bundle.manifest.calibration is not None
    assert bundle.manifest.golden is not None
    assert all(model.trained_on for model in bundle.models)
    card = (shipped / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert "never on a patient" in card
    assert card == (ROOT / "docs" / "explanation" / "model-card.md").read_text(encoding="utf-8")


def test_the_shipped_bundle_passes_the_doctor() -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    result = doctor(shipped, ComputeConfig(device="cpu"))
    assert result.failures == ()
    assert len(result.models) == 3


def test_the_shipped_bundle_is_what_its_recipe_makes() -> None:
    shipped = shipped_bundle()
    assert shipped is not None
    manifest, recipe = ModelBundle.open(shipped).manifest, load_config(ROOT / "configs" / "model.yaml")
    script = (ROOT / "experiments" / "shipped_model.py").read_text(encoding="utf-8")
    assert f'"--name", default="{manifest.run_name}"' in script
    assert manifest.profile == recipe.preprocess.applied_to(PROFILES[recipe.prepare.profile])
    assert (manifest.postprocess, manifest.notice) == (recipe.convert.postprocess, recipe.convert.notice)
    assert len(manifest.models) == recipe.prepare.kfolds
    card = (shipped / "MODEL_CARD.md").read_text(encoding="utf-8")
    for said in (*recipe.card.limits, *recipe.card.commands, recipe.card.training_data):
        assert " ".join(said.split()) in card
    asked = in_words(manifest.postprocess)
    assert asked
    assert f"* Evidence required of each lesion: {asked}\n" in card
