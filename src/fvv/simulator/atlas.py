"""The ICBM152 2009a maps that nilearn ships: read from its files, without network and without importing it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np

from fvv.arrays import Affine, UInt8Array
from fvv.errors import FvvError
from fvv.simulator.anatomy import TissueAtlas

_FILE = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"


def load_atlas() -> TissueAtlas:
    """Grey matter, white matter and T1 average of 152 people, 1 mm.

    Fonov et al. 2011, doi 10.1016/j.neuroimage.2010.07.033.

    Raises:
        FvvError: nilearn is not installed, or no longer carries the maps.
    """
    # Importing nilearn takes seconds and brings scikit-learn; its files are all that is wanted.
    spec = importlib.util.find_spec("nilearn")
    if spec is None or not spec.submodule_search_locations:
        raise FvvError(
            "the simulator needs nilearn's tissue maps", hint="pip install '.[simulate]' in the project's folder"
        )
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    t1, affine = _read(folder / _FILE.format("t1"))
    white_matter, _ = _read(folder / _FILE.format("wm"))
    grey_matter, _ = _read(folder / _FILE.format("gm"))
    return TissueAtlas(
        t1=t1,
        white_matter=white_matter,
        grey_matter=grey_matter,
        origin_mm=(float(affine[0, 3]), float(affine[1, 3]), float(affine[2, 3])),
    )


def _read(path: Path) -> tuple[UInt8Array, Affine]:
    if not path.is_file():
        raise FvvError(
            "nilearn is installed but does not carry this map", file=path, hint="pip install 'nilearn>=0.11'"
        )
    image = nib.Nifti1Image.from_filename(path)
    return np.asarray(image.dataobj, dtype=np.uint8), np.asarray(image.affine, dtype=np.float64)
