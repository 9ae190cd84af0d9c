"""How our numbers compare with the reference pipeline's on a real patient: prints two tables.

    python experiments/agreement.py [GOLDEN]

Needs the reference outputs, by default in ../shared/golden beside the repository.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import nibabel as nib
import numpy as np

from fvv.config import PROFILES, PredictConfig, PreprocessConfig
from fvv.imaging.preprocess import preprocess_case
from fvv.io.case import read_case
from fvv.io.tables import read_table
from fvv.stages.predict import predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    beside = Path(__file__).resolve().parents[2] / "shared" / "golden"
    parser.add_argument("golden", type=Path, nargs="?", default=beside, help="folder of the reference outputs")
    golden: Path = parser.parse_args().golden
    if not golden.is_dir():
        parser.error(f"no reference outputs in {golden}")
    print("Preprocessing, profile reference-v1: voxels that differ, largest differences")
    print(f"{'case':<16}{'brain Dice':>11}{'brain':>7}{'stroke':>7}{'visible':>8}{'b0':>9}{'b1000':>9}{'volume':>10}")
    for folder in sorted((golden / "cases").iterdir()):
        compare_preprocessing(folder, np.load(golden / "preprocessed" / f"{folder.name}.npz"))
    print("\nPrediction with golden/models: ours, the reference's, relative difference")
    with tempfile.TemporaryDirectory() as output:
        for expected in read_table(golden / "direct" / "results.csv"):
            compare_prediction(golden, expected, Path(output) / expected["Patient"])


def compare_preprocessing(folder: Path, theirs: np.lib.npyio.NpzFile) -> None:
    case = read_case(folder, PreprocessConfig(), labelled=True)
    ours = preprocess_case(case, PROFILES["reference-v1"])
    differing = [int((getattr(ours, name) != theirs[name]).sum()) for name in ("brain", "stroke", "flair_visible")]
    dice = 2 * (ours.brain & theirs["brain"]).sum() / (ours.brain.sum() + theirs["brain"].sum())
    images = (("norm_b0", ours.b0), ("norm_b1000", ours.b1000))
    errors = [float(np.abs(image.astype(float) - theirs[name].astype(float)).max()) for name, image in images]
    volume = abs(ours.voxel_volume_ml - float(theirs["voxel_volume_ml"]))
    print(
        f"{folder.name:<16}{dice:>11.6f}{differing[0]:>7}{differing[1]:>7}{differing[2]:>8}"
        f"{errors[0]:>9.1g}{errors[1]:>9.1g}{volume:>10.1g}"
    )


def compare_prediction(golden: Path, expected: dict[str, str], output: Path) -> None:
    name = expected["Patient"]
    predict(golden / "cases" / name, golden / "models", output, PredictConfig(compute={"device": "cpu"}))
    (row,) = read_table(output / "results.csv")
    for field in ("BrainMaskVoxels", "StrokeBlobVoxels", "FlairVizVoxels", "FlairVizVolume"):
        ours, theirs = float(row[field]), float(expected[field])
        print(f"{name:<16}{field:<18}{ours:>12.3f}{theirs:>12.3f}{abs(ours / theirs - 1):>10.1e}")
    masks = [
        np.asarray(nib.load(folder / "predictions.nii.gz").dataobj)
        for folder in (output / name, golden / "direct" / name)
    ]
    for channel, label in enumerate(("brain", "stroke", "votes")):
        differing = int((masks[0][..., channel] != masks[1][..., channel]).sum())
        print(f"{name:<16}{'predictions: ' + label:<22}{differing:>8} voxels differ")


if __name__ == "__main__":
    main()
