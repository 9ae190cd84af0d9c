"""A brain mask from an outside tool the user names by a command."""

from __future__ import annotations

import logging
import shlex
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from fvv.config import PreprocessingProfile
from fvv.data import Case, Volume
from fvv.errors import ConfigError, MaskError
from fvv.io.nifti import read_volume, write_volume

log = logging.getLogger(__name__)
TIMEOUT_S = 1800


def with_commanded_mask(case: Case, profile: PreprocessingProfile) -> Case:
    """The case with the mask of the outside tool, where the profile names one and the case came without a mask.

    Args:
        case: one that has a mask keeps it.
        profile: `mask_command` is run on b0 and b1000 without a shell; {b0}, {b1000} and {mask} stand for file names.

    Raises:
        ConfigError: the command names no {mask}, or an unknown placeholder.
        MaskError: the tool is missing, fails, or its mask does not fit.
    """
    if profile.mask_method != "command" or case.mask is not None:
        return case
    template = profile.mask_command
    if "{mask}" not in template:
        raise ConfigError(f"the mask command must contain {{mask}}: {template!r}")
    with tempfile.TemporaryDirectory(prefix="fvv-mask-") as name:
        files = {stem: str(Path(name) / f"{stem}.nii.gz") for stem in ("b0", "b1000", "mask")}
        try:
            words = [word.format(**files) for word in shlex.split(template)]
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"cannot fill in the mask command {template!r}: {error}") from error
        for stem, volume in (("b0", case.b0), ("b1000", case.b1000)):
            write_volume(Path(files[stem]), volume.array.astype(np.float32), volume.affine)
        log.info("running %s", words[0])
        try:
            # The user typed this command for this purpose; its words never pass through a shell.
            done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MaskError(f"the mask command could not run: {error}", patient=case.patient) from error
        if done.returncode != 0:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:] or ["no message"]
            raise MaskError(f"the mask command ended with {done.returncode}: {last[0]}", patient=case.patient)
        mask = read_volume(Path(files["mask"]))
    if mask.array.shape != case.b1000.array.shape:
        raise MaskError(
            f"the mask has shape {mask.array.shape}, expected {case.b1000.array.shape}", patient=case.patient
        )
    return replace(case, mask=Volume(mask.array > 0.5, case.b1000.affine))
