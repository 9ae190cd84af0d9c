"""The ICBM152 2009a maps that nilearn ships: read from its files, without network and without importing it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import nibabel as nib
import numpy as np

from fvv.errors import FvvError
from fvv.imaging.phantom.anatomy import TissueAtlas

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
        raise FvvError("the simulator needs nilearn's tissue maps", hint="pip install 'fvv[simulate]'")
    folder = Path(spec.submodule_search_locations[0]) / "datasets" / "data"
    t1 = _read(folder / _FILE.format("t1"))
    return TissueAtlas(
        t1=np.asarray(t1.dataobj, dtype=np.uint8),
        white_matter=np.asarray(_read(folder / _FILE.format("wm")).dataobj, dtype=np.uint8),
        grey_matter=np.asarray(_read(folder / _FILE.format("gm")).dataobj, dtype=np.uint8),
        origin_mm=(float(t1.affine[0, 3]), float(t1.affine[1, 3]), float(t1.affine[2, 3])),
    )


def _read(path: Path) -> nib.Nifti1Image:
    if not path.is_file():
        raise FvvError(
            "nilearn is installed but does not carry this map", file=path, hint="pip install 'nilearn>=0.11'"
        )
    return nib.Nifti1Image.load(path)
