"""From a prepared examination to what the models find in it."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from functools import partial
from typing import Protocol

import numpy as np

from fvv.arrays import BoolArray, FloatArray
from fvv.config import PostprocessConfig, PreprocessingProfile
from fvv.data import Finding, FusedSegmentation, PreparedCase, Severity
from fvv.errors import FvvError
from fvv.imaging.fusion import fuse_folds
from fvv.imaging.postprocess import believable_visible, remaining_stroke
from fvv.imaging.slabs import network_input

NOTHING_REMOVED = PostprocessConfig()
LEAST_BRAIN = 0.5
"""Of the preprocessing mask (chosen here)."""


class Models(Protocol):
    """Models that are applied together: an `OnnxEnsemble`, or what stands for one."""

    profile: PreprocessingProfile
    provider: str

    def __len__(self) -> int: ...

    def each_output(
        self, padded: FloatArray, *, stroke_logits: bool, visible_logit: float
    ) -> Generator[tuple[BoolArray, FloatArray | None]]:
        """(2, slices + 2 * context, i, j) network input to (3, slices, i, j) bool of one model after another.

        They say yes where the logit is over 0, FLAIR-visible where it is over `visible_logit`.
        With `stroke_logits`, each comes with its (slices, i, j) float32 logits of the stroke.
        """
        ...


Output = tuple[BoolArray, FloatArray | None]
"""Of one model: (3, i, j, k) bool masks, and where they are needed (i, j, k) float32 logits of the stroke."""


def segment_case(
    case: PreparedCase, models: Models, postprocess: PostprocessConfig = NOTHING_REMOVED
) -> FusedSegmentation:
    """Run every model on an examination and fuse their masks.

    Args:
        case: prepared with the models' profile.
        models: one (evaluation, out of fold) or all (prediction).
        postprocess: what is taken out of the fused stroke.

    Raises:
        ModelError: a model's output is not finite.
        InputError: post-processing asks for the ADC, and the case was prepared without the scale of its signals.

    Examples:
        >>> import numpy as np
        >>> import fvv
        >>> predictor = fvv.Predictor()
        >>> image, mask = np.random.default_rng(0).uniform(100, 200, (64, 64, 5)), np.ones((64, 64, 5), bool)
        >>> b0, brain = (fvv.Volume(array, np.diag([4.0, 4.0, 10.0, 1.0])) for array in (image, mask))
        >>> case = fvv.Case("noise", b0, b0, mask=brain)
        >>> prepared = fvv.preprocess_case(case, predictor.bundle.profile)
        >>> fvv.segment_case(prepared, predictor.models).stroke.shape
        (256, 256, 5)
    """
    padded = network_input(case, models.profile.context_slices)
    with closing(_outputs(padded, case, models, postprocess)) as outputs:
        return _fused(outputs, len(models), case, postprocess)


def _fused(
    outputs: Iterable[Output], n_models: int, case: PreparedCase, postprocess: PostprocessConfig
) -> FusedSegmentation:
    mean_logit = None
    if postprocess.asks_for_evidence:  # Slice by slice in memory, as the logits come: several times faster.
        i, j, k = case.brain.shape
        mean_logit = np.moveaxis(np.zeros((k, i, j), dtype=np.float32), 0, 2)

    def masks() -> Iterator[BoolArray]:
        for mask, logits in outputs:
            if mean_logit is not None and logits is not None:
                np.add(mean_logit, logits / n_models, out=mean_logit)
            yield mask

    fused = fuse_folds(
        masks(),
        partial(remaining_stroke, mean_logit=mean_logit, case=case, config=postprocess),
        partial(believable_visible, case=case, config=postprocess),
    )
    # The stroke is cut to the predicted brain: with hardly any brain, 0 mL of stroke would mean nothing.
    found, expected = (int(mask.sum()) * case.voxel_volume_ml for mask in (fused.brain, case.brain))
    if not found or found >= LEAST_BRAIN * expected:  # With none at all `decide` gives no answer.
        return fused
    message = f"the models found {found:.0f} mL of brain, the mask holds {expected:.0f} mL"
    return replace(fused, findings=(Finding("no-brain", message, Severity.NOT_ASSESSABLE), *fused.findings))


def _outputs(
    padded: FloatArray, case: PreparedCase, models: Models, postprocess: PostprocessConfig
) -> Generator[Output]:
    try:
        asked = models.each_output(
            padded, stroke_logits=postprocess.asks_for_evidence, visible_logit=postprocess.visible_logit
        )
        with closing(asked) as outputs:
            for mask, logits in outputs:
                # (3, k, i, j) -> (3, i, j, k)
                yield np.moveaxis(mask, 1, 3), None if logits is None else np.moveaxis(logits, 0, 2)
    except FvvError as error:
        raise error.for_examination(case.examination_id) from error
