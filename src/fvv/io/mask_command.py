"""A brain mask from an outside tool that the user names by a command."""

from __future__ import annotations

import logging
import shlex
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from fvv.config import PreprocessingProfile
from fvv.data import Case
from fvv.errors import ConfigError, FvvError, MaskError
from fvv.io.nifti import write_volume
from fvv.io.roi import read_roi
from fvv.names import plain

log = logging.getLogger(__name__)
TIMEOUT_S = 1800


def with_commanded_mask(case: Case, profile: PreprocessingProfile, *, resample: bool = False) -> Case:
    """The case with the mask of the outside tool, where the profile names one and the case came without a mask.

    Args:
        case: one that has a mask keeps it.
        profile: `mask_command` is run on b0 and b1000 without a shell; {b0}, {b1000} and {mask} stand for file names.
        resample: resample a mask that lies on another grid than b1000, instead of refusing it.
    """
    if profile.mask_method != "command" or case.mask is not None:
        return case
    template = profile.mask_command
    if "{mask}" not in template:
        raise ConfigError(f"the mask command must contain {{mask}}: {template!r}")
    with tempfile.TemporaryDirectory(prefix="fvv-mask-") as name:
        files = {stem: Path(name) / f"{stem}.nii.gz" for stem in ("b0", "b1000", "mask")}
        try:
            words = [word.format(**files) for word in shlex.split(template)]
        except (KeyError, IndexError, ValueError) as error:
            raise ConfigError(f"cannot fill in the mask command {template!r}: {error}") from error
        for stem, volume in (("b0", case.b0), ("b1000", case.b1000)):
            write_volume(files[stem], volume.array.astype(np.float32), volume.affine)
        log.info("running %s", words[0])
        try:
            # The user typed this command for this purpose; its words never pass through a shell.
            done = subprocess.run(words, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
        except (OSError, subprocess.TimeoutExpired) as error:
            raise MaskError(
                plain(f"the mask command could not run: {error}"), examination_id=case.examination_id
            ) from error
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode("utf-8", errors="replace")
            last = plain((said.strip().splitlines() or ["no message"])[-1])
            raise MaskError(
                f"the mask command ended with {done.returncode}: {last}", examination_id=case.examination_id
            )
        try:
            mask, notes = read_roi(files["mask"], case.b1000, resample=resample)
        except FvvError as error:
            error.message, error.file = f"the mask command's output: {error.message}", None  # The file is temporary.
            raise error.for_examination(case.examination_id) from error
    return replace(case, mask=mask, notes=(*case.notes, *notes))
