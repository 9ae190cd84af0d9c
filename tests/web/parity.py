"""The page's engine, in Node, beside Python.

`python -m web.parity` tries all cases, `--also FOLDER` others too, and prints a table: largest difference of the
network input, lowest Dice of the masks, relative difference of FVV, voxels of predictions.nii.gz and messages that
differ.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from fvv.config import ComputeConfig, PredictConfig, PreprocessConfig
from fvv.errors import FvvError
from fvv.inference.ensemble import open_ensemble
from fvv.io.bundle import ModelBundle
from fvv.io.case import read_case
from fvv.io.shipped import shipped_or_refuse
from fvv.recipes.examine import Examined, Settings, examine
from web.cases import FAST, MORE, base, broken_files

ROOT = Path(__file__).resolve().parents[2]
ENGINE = ROOT / "web" / "build" / "node" / "parity.js"
NODE = shutil.which("node")
INPUT_DIFFERENCE, LEAST_DICE, FVV_DIFFERENCE = 1e-6, 0.9999, 1e-3


@dataclass(frozen=True)
class Comparison:
    """How far the two are apart on one examination; None where there is nothing to compare."""

    name: str
    python: str
    engine: str
    codes: tuple[str, ...]
    engine_codes: tuple[str, ...]
    input_difference: float | None = None
    dice: float | None = None
    fvv_difference: float | None = None
    files_differ: int | None = None
    messages_differ: int = 0
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        return (
            (self.python, self.codes) == (self.engine, self.engine_codes)
            and (self.input_difference is None or self.input_difference <= INPUT_DIFFERENCE)
            and (self.dice is None or self.dice >= LEAST_DICE)
            and (self.fvv_difference is None or self.fvv_difference <= FVV_DIFFERENCE)
        )

    def __str__(self) -> str:
        numbers = (self.input_difference, self.dice, self.fvv_difference, self.files_differ)
        cells = " ".join(f"{'-' if one is None else format(one, '.4g'):>9}" for one in numbers)
        extra = "" if self.agrees else f"   DIFFERS: {self.python} {self.codes} / {self.engine} {self.engine_codes}"
        what = f"{self.python}: {', '.join(self.codes)}"
        return f"{self.name:30} {cells} {self.messages_differ:3} {self.seconds:6.1f} s  {what[:90]}{extra}"


def first_model(folder: Path, **postprocess: float | None) -> Path:
    """A bundle with the first model in the package alone, a third of the work, and with other rules where given."""
    shutil.copytree(shipped_or_refuse(), folder)
    content = json.loads((folder / "bundle.json").read_text())
    rules = {**content["postprocess"], **postprocess}
    alone = {**content, "models": content["models"][:1], "golden": None, "postprocess": rules}
    (folder / "bundle.json").write_text(json.dumps(alone))
    return folder


def compared(folder: Path, models: Path) -> list[Comparison]:
    """Run both on a folder of examinations and compare what they say."""
    assert NODE is not None
    subprocess.run([NODE, str(ENGINE), str(folder), str(models)], check=True, stdout=subprocess.DEVNULL)
    return compare(folder, models)


def compare(folder: Path, models_folder: Path) -> list[Comparison]:
    """The examinations of a folder that the engine has answered, in Python too."""
    bundle = ModelBundle.open(models_folder)
    config = PredictConfig(compute=ComputeConfig(device="cpu", threads=1))
    models = open_ensemble(bundle, config)
    settings = Settings.of(bundle.profile, config, bundle.manifest)
    found = []
    for case in sorted(item for item in folder.iterdir() if item.is_dir()):
        web = json.loads((case / "web.json").read_text())
        try:
            said = case / "b_value.txt"
            preprocess = PreprocessConfig(b_value=float(said.read_text()) if said.exists() else None)
            examined = examine(read_case(case, preprocess, labelled=False), models, settings)
        except FvvError as error:
            found.append(Comparison(case.name, "refused", "refused" if "error" in web else web["decision"], (), ()))
            print(f"{case.name}: Python: {error}; engine: {web.get('error')}")
            continue
        found.append(_compare(case, examined, web))
    return found


def _compare(folder: Path, examined: Examined, web: dict[str, Any]) -> Comparison:
    decision = examined.prediction.decision
    engine = [(one["code"], one["severity"]) for one in web.get("reasons", ())]
    ours = [(one.code, one.severity.value) for one in decision.reasons]
    messages = zip(decision.reasons, web.get("reasons", ()), strict=False)
    prepared, fused = examined.prepared, examined.segmentation
    difference = dice = fvv = files = None
    if prepared is not None and (folder / "web_b0.bin").exists():
        shape = prepared.brain.shape
        parts = [(prepared.b0, "b0"), (prepared.b1000, "b1000")]
        difference = max(
            float(np.abs(np.fromfile(folder / f"web_{name}.bin", np.float32).reshape(shape) - image).max())
            for image, name in parts
        )
        masks = [(prepared.brain, "mask")]
        if fused is not None and (folder / "web_brain.bin").exists():
            masks += [(fused.brain, "brain"), (fused.stroke, "stroke"), (fused.flair_visible_votes > 0, "votes")]
        dice = min(
            _dice(mask, np.fromfile(folder / f"web_{name}.bin", np.uint8).reshape(shape) > 0) for mask, name in masks
        )
    prediction = examined.prediction
    if prediction.fvv_ml is not None and web.get("FlairVizVolume") is not None:
        fvv = abs(web["FlairVizVolume"] - prediction.fvv_ml) / max(prediction.fvv_ml, 1e-9)
        written = nib.load(folder / "web_predictions.nii")
        n = prediction.n_models
        expected = np.stack([n * prediction.brain, n * prediction.stroke, prediction.flair_visible_votes], axis=3)
        files = int((np.asarray(written.dataobj) != expected).sum())
        like = nib.load(next(folder.glob("b1000.nii*")))
        assert np.allclose(written.affine, like.affine, atol=1e-4), folder.name
    return Comparison(
        folder.name,
        decision.state.value,
        web.get("decision", "refused"),
        tuple(f"{code}/{severity}" for code, severity in ours),
        tuple(f"{code}/{severity}" for code, severity in engine),
        difference,
        dice,
        fvv,
        files,
        sum(one.message != other["message"] for one, other in messages),
        web["wall_s"],
    )


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    both = a.sum() + b.sum()
    return 1.0 if not both else float(2 * (a & b).sum() / both)


def write_cases(folder: Path, scratch: Path, *, everything: bool) -> None:
    """Write the cases; all of them, or those that every change is tried on."""
    patient = base(scratch / "sim")
    kinds = {**FAST, **MORE} if everything else FAST
    for name, change in kinds.items():
        change(patient).write(folder / name)
    broken_files(folder, patient)
    for number in (1, 2, 5, 6, 8) if everything else ():
        base(scratch / f"sim{number}", number).write(folder / f"patient_{number}")


def main() -> int:
    """Try all cases; the exit code is 1 where one differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fast", action="store_true", help="only the cases that every change is tried on")
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="examinations, a folder each; read, not kept")
    options = parser.parse_args()
    for case in options.also:
        if not any(case.glob("b1000.nii*")):
            parser.error(f"{case}: holds no b1000.nii.gz, one folder is one examination")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "cases"
        write_cases(folder, Path(temporary), everything=not options.fast)
        for case in options.also:
            shutil.copytree(case, folder / f"also_{case.name}", ignore=shutil.ignore_patterns("*roi*", "mask*"))
        rows = compared(folder, shipped_or_refuse())
    print(f"{'case':30} {'input':>9} {'Dice':>9} {'FVV':>9} {'file':>9} msg  engine")
    for row in rows:
        print(row)
    bad = [row.name for row in rows if not row.agrees]
    print(f"{len(rows)} cases, {len(bad)} differ {' '.join(bad)}")
    return bool(bad)


if __name__ == "__main__":
    raise SystemExit(main())
