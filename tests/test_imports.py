"""What must stay quick and what must work without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "torch",
    "numpy",
    "lightning",
    "wandb",
    "pandas",
    "matplotlib",
    "scipy",
    "skimage",
    "dipy",
    "onnxruntime",
    "nilearn",
)


def _loaded_by(code: str) -> set[str]:
    probe = "import contextlib, sys\n"
    probe += f"with contextlib.suppress(SystemExit):\n    {code}\n"
    probe += "print(*sys.modules, file=sys.stderr)"
    run = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stderr.split()}


@pytest.mark.parametrize("code", ["import fvv", "import fvv.cli; fvv.cli.main(['--help'])"])
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert not _loaded_by(code) & set(HEAVY)


def test_stages_load_torch_only_when_they_train_or_convert() -> None:
    # demo imports every other stage.
    loaded = _loaded_by("import fvv.stages.demo")
    assert "onnxruntime" in loaded
    assert not loaded & {"torch", "lightning", "wandb"}


def test_engines_are_loaded_where_they_are_asked_for() -> None:
    for code in ("import fvv.stages.demo", "import fvv.cli; fvv.cli.main(['predict', '--help'])"):
        assert not _loaded_by(code) & {"submitit", "dask", "distributed"}
