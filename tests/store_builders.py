"""A small store of phantoms that a network can learn from in a few steps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from builders import ellipsoid
from fvv.config import PROFILES, NetworkConfig, TrainConfig
from fvv.data import FoldPlan, FoldRow, InPlaneGrid, Participant, PreparedCase, Role
from fvv.io.folds import write_folds
from fvv.io.store import CaseStore

PROFILE = PROFILES["robust-v1"]
TINY = TrainConfig(
    name="tiny",
    epochs=2,
    slices_per_epoch=16,
    slab_slices=4,
    batch_slabs=2,
    learning_rate=1e-2,
    norm_slabs=4,
    workers=0,
    figures_every_epochs=2,
    wandb_mode="disabled",
    network=NetworkConfig(widths=(4, 4, 8, 8), decoder_widths=(8, 4, 4), resolution="half"),
)


def phantom(rng: np.random.Generator, patient: str, *, slices: int = 6, lesion: bool = True, visible: bool = True):
    """A bright brain on a dark ground, with a lesion brighter on b1000 whose visible half is brighter on b0."""
    shape = (256, 256, slices)
    brain = ellipsoid(shape, (128, 128, slices / 2), (80, 100, slices))
    centre = (*rng.uniform(100, 150, 2), slices / 2)
    stroke = ellipsoid(shape, centre, (20, 20, slices / 3)) & brain if lesion else np.zeros(shape, dtype=bool)
    flair_visible = stroke & (np.arange(256)[:, None, None] > centre[0]) if visible else np.zeros(shape, dtype=bool)
    noise_b0, noise_b1000 = rng.normal(0, 0.3, (2, *shape))
    b0 = np.where(brain, noise_b0, -2) + 2 * flair_visible
    b1000 = np.where(brain, noise_b1000, -2) + 4 * stroke
    grid = InPlaneGrid(shape, np.diag([1.0, 1.0, 5.0, 1.0]), ((0, 1), (1, 1), (2, 1)), 1.0)
    images = (b0.astype(np.float16), b1000.astype(np.float16))
    return PreparedCase(patient, *images, brain, grid, stroke, flair_visible)


def write_store(path: Path, *, patients: int = 6, folds: int = 2, seed: int = 0) -> CaseStore:
    """Patients secret_0 ... with a split; one has no lesion, every second lesion is visible."""
    rng = np.random.default_rng(seed)
    store = CaseStore.create(path, PROFILE)
    rows = []
    for number in range(patients):
        name = f"secret_{number}"
        case = phantom(rng, name, lesion=number != 3, visible=number % 2 == 0)
        hashes = {"image_sha256": f"image-{number}", "source_sha256": f"source-{number}"}
        store.write(case, Participant(name, f"person-{number}", "site", number % 2 == 1), **hashes)
        roles = [
            Role.TEST if number % folds == fold else Role.VALID if number // folds == 0 else Role.TRAIN
            for fold in range(folds)
        ]
        rows.append(FoldRow(name, f"person-{number}", tuple(roles)))
    write_folds(path / "folds.tsv", FoldPlan(tuple(rows)))
    return store


# Ways to break a file.
DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "of other types": lambda path: path.write_bytes(b'{"run_id": 3, "epochs": "x", "scores": []}'),
    "a list": lambda path: path.write_bytes(b"[]"),
    "deep": lambda path: path.write_bytes(b"[" * 100_000),
    "binary": lambda path: path.write_bytes(bytes(range(256))),
}


def assert_same_weights(folder: Path, other: Path) -> None:
    """The last checkpoints of two folds hold the same weights, to the bit."""
    import torch  # noqa: PLC0415 - other users of this module need none

    expected, found = (
        torch.load(path / "last.ckpt", weights_only=True, map_location="cpu")["state_dict"] for path in (folder, other)
    )
    assert all(torch.equal(expected[name], found[name]) for name in expected)
